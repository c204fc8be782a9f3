# make demo: set up, build, then simulate, prepare, train on two ranks, evaluate, predict, draw.
# make test: set up, then every check.   SITE names the file in modules/ that knows this machine's packages.
# make install PREFIX=FOLDER: build, then programs, job files, site files, libtorch and a modulefile into FOLDER.
# make bundle: all that building needs on a machine without a network, with the libtorch that TORCH names, in dist/.
# make portable: the built programs with their MPI and HDF5, for a machine that has none, in dist/.
# make test-bundle: tries both, as root: builds without a network, runs in another Debian (SUITE) without MPI and HDF5.
# make mpich: set up, then the integration tests with MPICH, built apart from the rest.
# make test-cluster: training over several hosts and job files under qsub, on this machine; as root. TRANSCRIPT=FILE
# keeps what was said.
# make test-arm: builds for 64-bit ARM on another machine, and tries the kernels of its CPUs in an emulator.
# make faults: set up, then kill and resume training KILLS times.
# make bench-step: the whole training step on one core, samples/s and share of the core's peak.
# make bench-peers: the same beside PyTorch, Keras and Horovod, which it installs; OUT=FILE keeps the table; ROUNDS=7 (70 min).
# make bench-path: what loader, start, evaluation and checkpoints cost.   make bench-growth: time and memory by size.
# ENGINE chooses what computes in these four; PRECISION=bf16 is for bench-step.
# make literature: published results beside ours; QUICK=1 a subset with one seed, DATA=FOLDER also on real genomes, ONLY=WORDS rows that
# hold one of them, between commas.
SITE  ?= debian
RANKS ?= 2
DEMO  ?= runs/demo
KILLS ?= 200
ENGINE ?= auto
PRECISION ?= f32
ROUNDS ?= 7
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: build demo test install bundle portable test-bundle mpich test-cluster test-arm faults bench-step bench-peers bench-path bench-growth literature clean

build:
	@. modules/$(SITE)
	cargo build --release --locked --workspace

demo: build
	@. modules/$(SITE)
	train=target/release/tfbind-mpi prep=target/release/tfbind-prep
	[ ! -e $(DEMO) ] || mv $(DEMO) $(DEMO).$$(date +%Y%m%d-%H%M%S)
	mkdir -p $(DEMO)
	set -x
	$$prep simulate --out $(DEMO)/genome
	$$prep make --fasta $(DEMO)/genome/genome.fa --signal DNase=$(DEMO)/genome/dnase.bigWig \
	    --peaks CTCF=$(DEMO)/genome/ctcf.narrowPeak --widen 25 --length 2048 \
	    --valid sim9 --test sim10 --out $(DEMO)/data.h5
	mpirun -np $(RANKS) $$train train --data $(DEMO)/data.h5 --run $(DEMO)/run \
	    --batch 8 --epochs 12 --lr 0.002 --lr-scaling none --reverse-complement
	mpirun -np $(RANKS) $$train predict $(DEMO)/run --half-window
	$$prep export $(DEMO)/run/predictions_test.h5 --bigwig $(DEMO)/run/predictions.bigWig
	mpirun -np $(RANKS) $$train evaluate $(DEMO)/run --motif $(DEMO)/genome/ctcf.pfm --motif-reach 25 \
	    | tee $(DEMO)/evaluation.txt
	$$train report $(DEMO)/run
	{ set +x; } 2>/dev/null
	echo
	printf '%s\n' "genome files          $(DEMO)/genome" "windows               $(DEMO)/data.h5" \
	    "checkpoints, log      $(DEMO)/run" "predictions           $(DEMO)/run/predictions.bigWig" \
	    "pictures              $(DEMO)/run/report.html" "metrics               $(DEMO)/run/evaluation_metrics.csv"
	echo
	grep -E '^[a-z_]+ [a-z0-9.:]+$$' $(DEMO)/evaluation.txt

test: export ALSO := shellcheck
test:
	@. modules/$(SITE)
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cargo test --release --locked --workspace

# What was there of an earlier install is replaced. A libtorch of this checkout goes along, by hard links where it can;
# any other is left where it lies.
install: $(if $(PREFIX),build)
	@[ -n "$(PREFIX)" ] || { echo "make install: where to? PREFIX=FOLDER" >&2; exit 2; }
	. modules/$(SITE)
	prefix=$$(realpath -m "$(PREFIX)")
	home=$$prefix/lib/tfbind-mpi
	version=$$(sed -n '/^\[workspace.package\]/,/^$$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
	rm -rf "$$home"
	mkdir -p "$$home/.cache" "$$prefix/bin" "$$prefix/modulefiles/tfbind-mpi"
	install -m 755 target/release/tfbind-mpi target/release/tfbind-prep "$$prefix/bin"
	cp -r pbs slurm modules "$$home"
	sed -i "s|\$${[A-Z_]*:-\$$PWD}|$$home|" "$$home"/pbs/*.pbs "$$home"/slurm/*.sbatch
	case $$LIBTORCH in
	    "$$PWD"/.cache/*)
	        for build in .cache/libtorch*/complete; do
	            cp -al "$$(dirname "$$build")" "$$home/.cache/" 2>/dev/null || cp -a "$$(dirname "$$build")" "$$home/.cache/"
	        done
	        libtorch=$$home/.cache/$${LIBTORCH#"$$PWD"/.cache/} ;;
	    *)  ln -s "$$LIBTORCH" "$$home/libtorch"
	        libtorch=$$LIBTORCH ;;
	esac
	sed -e "s|@PREFIX@|$$prefix|; s|@LIBTORCH@|$$libtorch|; s|@VERSION@|$$version|; s|@MODULES@|$${TFBIND_MODULES:-}|" \
	    modules/modulefile.in >"$$prefix/modulefiles/tfbind-mpi/$$version"
	echo "module use $$prefix/modulefiles; module load tfbind-mpi"

bundle:
	@. modules/$(SITE)
	packaging/bundle.sh

portable: export ALSO := patchelf
portable: build
	@. modules/$(SITE)
	folder=tfbind-mpi-$$(packaging/version)-linux-x86_64
	packaging/portable.sh dist/$$folder
	tar -C dist -c --owner 0 --group 0 $$folder | gzip >dist/$$folder.tar.gz
	du -h dist/$$folder.tar.gz

test-bundle: export ALSO := patchelf debootstrap ip:iproute2
test-bundle:
	@. modules/$(SITE)
	tests/bundle.sh

# MPI says to the site file which library; rsmpi builds with MPICC, the tests start ranks with MPIRUN.
mpich: export MPI := mpich
mpich: export CARGO_TARGET_DIR := target/mpich
mpich:
	@. modules/$(SITE)
	cargo test --release --locked --workspace --test '*'

test-cluster: export CLUSTER := 1
test-cluster:
	@[ "$$(id -u)" -eq 0 ] || { echo "make test-cluster: needs root, for hosts and a batch system of its own" >&2; exit 1; }
	. modules/$(SITE)
	cargo build --release --locked --workspace
	tests/cluster/run.sh

test-arm: export ALSO := aarch64-linux-gnu-g++:g++-aarch64-linux-gnu qemu-aarch64-static:qemu-user-static
test-arm:
	@. modules/$(SITE)
	tests/arm.sh

faults:
	@. modules/$(SITE)
	cargo bench --locked --bench faults -- --kills $(KILLS)

bench-step:
	@. modules/$(SITE)
	cargo bench --locked --bench step --no-run
	OMP_NUM_THREADS=1 taskset -c 0 cargo bench --quiet --locked --bench step -- --engine $(ENGINE) --precision $(PRECISION)

bench-peers:
	@. modules/$(SITE)
	benches/peers/setup.sh || true
	program=$$(cargo bench --locked --bench step --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$$/\1/p')
	python3 benches/peers/run.py --step "$$program" --engine $(ENGINE) --rounds $(ROUNDS) --out "$(OUT)"

literature: build
	@. modules/$(SITE)
	python3 benches/literature/run.py $(if $(QUICK),--quick) $(if $(DATA),--data $(DATA)) $(if $(ONLY),--only "$(ONLY)") $(if $(OUT),--out $(OUT))

bench-path: build
	@. modules/$(SITE)
	benches/path.sh --engine $(ENGINE)

bench-growth: build
	@. modules/$(SITE)
	benches/growth.sh --engine $(ENGINE)

clean:
	rm -rf target runs dist
