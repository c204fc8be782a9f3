//! The job files under a faked PBS: what they start, on which hosts and cores, what they demand, and how they end.

mod ends;
mod faked;

use std::{fs, process::Command};

use faked::{Job, REPOSITORY};

#[test]
fn one_rank_a_gpu_bound_to_its_cores_on_1_2_and_3_nodes() {
    for nodes in 1..=3 {
        let hosts = &["node1", "node2", "node3"][..nodes];
        let (ranks, cpus) = ((4 * nodes).to_string(), (48 * nodes).to_string());
        // OpenPBS lists a host once and leaves the rest to qstat; Gadi lists it once a core and has variables.
        let plain = Job::new(hosts);
        let gadi = Job::new(
            &hosts
                .iter()
                .flat_map(|host| [*host; 48])
                .collect::<Vec<_>>(),
        )
        .qstat("")
        .with("PBS_NGPUS", &ranks)
        .with("PBS_NCPUS", &cpus);
        for job in [plain, gadi] {
            let jobfs = job.path("jobfs").display().to_string();
            let job = job.with("PBS_JOBFS", &jobfs);
            let ended = job.run("pbs/gpuvolta.pbs").ok();
            let mapping = format!("mpirun -np {ranks} --map-by ppr:4:node:PE=12 --bind-to core");
            let train = ended.call(&mapping);
            let nodefile = format!("--hostfile {}", job.path("nodes").display());
            assert_eq!(train.contains(&nodefile), nodes > 1, "{train}");
            // The run remembers where the data stay, and reads the copy.
            let staged = format!("{jobfs}/tfbind-mpi.11.fake/data.h5");
            let lasting = format!("--data {}", job.path("data.h5").display());
            for (work, option) in [
                ("doctor", "--data"),
                ("train", "--data-copy"),
                ("evaluate", "--data"),
            ] {
                let call = ended.call(&format!("tfbind-mpi {work}"));
                assert!(call.contains(&format!("{option} {staged}")), "{call}");
                assert_eq!(call.contains(&lasting), work == "train", "{call}");
            }
            // On several hosts each has its copy made by a process of its own; what is in PBS_JOBFS goes with the job.
            let each = format!("mpirun -np {nodes} --map-by ppr:1:node");
            let copies = ended
                .calls
                .iter()
                .filter(|call| call.starts_with(&each))
                .count();
            assert_eq!(copies, usize::from(nodes > 1), "{:?}", ended.calls);
            let copy = format!("{jobfs}/tfbind-mpi.11.fake/data.h5");
            assert_eq!(fs::read_to_string(copy).unwrap(), "windows");
            let doctor = ended
                .calls
                .iter()
                .position(|call| call.starts_with("tfbind-mpi doctor"));
            let begun = ended
                .calls
                .iter()
                .position(|call| call.starts_with("tfbind-mpi train"));
            assert!(doctor < begun);
        }
    }
}

#[test]
fn without_gpus_one_rank_a_core_or_as_many_as_are_asked_for() {
    let job = Job::new(&["node1", "node2"]).qstat("Resource_List.ncpus = 16");
    fs::remove_file(job.path("home/target/release/nvidia-smi")).unwrap();
    let ended = job.run("pbs/gpuvolta.pbs").ok();
    ended.call("mpirun -np 16 --map-by ppr:8:node:PE=1 --bind-to core");
    assert!(ended.said.contains("where it lies"), "{}", ended.said);
    let ended = job.with("RANKS", "4").run("pbs/gpuvolta.pbs").ok();
    ended.call("mpirun -np 4 --map-by ppr:2:node:PE=4 --bind-to core");
    ended.call("--resume");

    // What neither a variable nor qstat says is seen on the host.
    let job = Job::new(&["node1"]).qstat("");
    let ended = job.run("pbs/dgxa100.pbs").ok();
    ended.call("mpirun -np 4 --map-by ppr:4:node:PE=12 --bind-to core");
    let job = job.with("RANKS", "96");
    let ended = job.run("pbs/dgxa100.pbs").ok();
    ended.call("mpirun -np 96 --map-by ppr:96:node --bind-to none");
}

#[test]
fn data_that_do_not_fit_are_read_in_place() {
    let job = Job::new(&["node1"]).with("PBS_JOBFS", "/dev/shm");
    // Larger than any disk, and empty.
    let data = fs::File::create(job.path("data.h5")).unwrap();
    data.set_len(1 << 43).unwrap();
    let ended = job.run("pbs/gpuhopper.pbs").ok();
    assert!(
        ended.errors.contains("MiB free on /dev/shm"),
        "{}",
        ended.errors
    );
    let place = format!("--data {}", job.path("data.h5").display());
    assert!(ended.call("tfbind-mpi train").contains(&place));
}

#[test]
fn prep_scaling_and_sweep() {
    let job = Job::new(&["node1"])
        .with("DATA", "new.h5")
        .with("PREP", "--fasta hg38.fa");
    let ended = job.run("pbs/prep.pbs").ok();
    let wanted = format!(
        "make --fasta hg38.fa --out {}",
        job.path("new.h5").display()
    );
    ended.call(&wanted);
    assert!(job.report("runs/new-prep").contains("test: 13 windows"));
    assert!(job.run("pbs/prep.pbs").errors.contains("is there already"));

    let job = Job::new(&["node1", "node2"]).with("RANKS", "6");
    let tmp = job.path("tmp").display().to_string();
    fs::create_dir(&tmp).unwrap();
    let job = job.with("TMPDIR", &tmp);
    let ended = job.run("pbs/scaling.pbs").ok();
    ended.call("bench scaling --ranks 1,2,4,6 --data");
    ended.call("--mpirun mpirun --map-by ppr:3:node:PE=16 --bind-to core");
    ended.call("--su-rate 3 --cpus-per-rank 16");
    // Names that stay as they are from job to job; nothing stays on a disk that is not the job's own.
    let kept = job.path("runs/data-scaling/job");
    ended.call(&format!("--hostfile {}/hosts", kept.display()));
    assert_eq!(
        fs::read_link(kept.join("data.h5")).unwrap(),
        job.path("data.h5")
    );
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);

    let job = Job::new(&["node1"])
        .with("SWEEP", "sweep.toml")
        .with("TRAIN", "--epochs 3")
        .touch("cut")
        .touch("sweep.toml");
    let jobfs = job.path("jobfs").display().to_string();
    let job = job.with("PBS_JOBFS", &jobfs);
    let ended = job.run("pbs/sweep.pbs");
    assert_eq!(ended.code, Some(75), "{}{}", ended.said, ended.errors);
    let (run, data) = (job.path("runs/data-sweep"), job.path("data.h5"));
    let (run, data) = (run.display(), data.display());
    ended.call("mpirun -np 4 --map-by ppr:4:node:PE=12 --bind-to core");
    ended.call(&format!(
        "tfbind-mpi sweep sweep.toml --run {run} --data {data} --epochs 3 --data-copy {jobfs}"
    ));
    ended.call("qsub");
    // The same command goes on; steps are those of all trials.
    fs::remove_file(job.path("cut")).unwrap();
    let ended = job.run("pbs/sweep.pbs").ok();
    assert!(!ended.call("tfbind-mpi sweep").contains("--resume"));
    let report = job.report("runs/data-sweep");
    assert!(report.contains("2 to 4 in this job"), "{report}");
    assert!(report.contains("    0   done     0.5  0.01\n"), "{report}");
}

/// The same body under Slurm's own names, without its qsub and qstat.
#[test]
fn slurm_job_files_differ_in_nothing_but_the_header() {
    let job = Job::new(&["node1", "node2"])
        .without("PBS_JOBID")
        .without("PBS_NODEFILE")
        .without("PBS_QUEUE")
        .without("PBS_O_WORKDIR")
        .with("SLURM_JOB_ID", "7")
        .with("SLURM_JOB_NODELIST", "node[1-2]")
        .with("SLURM_JOB_NUM_NODES", "2")
        .with("SLURM_JOB_PARTITION", "gpu")
        .with("SLURM_CPUS_ON_NODE", "16")
        .with("SLURM_GPUS_ON_NODE", "2")
        .touch("cut");
    let data = job.path("data.h5").display().to_string();
    let run = job.path("runs/data").display().to_string();
    let job = job.with("DATA", &data).with("RUN", &run);
    for name in ["qsub", "qstat"] {
        fs::remove_file(job.path("home/target/release").join(name)).unwrap();
    }
    let ended = job.run("slurm/train.sbatch");
    assert_eq!(ended.code, Some(75), "{}{}", ended.said, ended.errors);
    ended.call("mpirun -np 4 --map-by ppr:2:node:PE=8 --bind-to core --hostfile");
    let next = ended.call(
        "sbatch --parsable --nodes=2 --gpus-per-node=2 --time=0:10:00 --partition=gpu --export=ALL,TFBIND_HOME=",
    );
    assert!(next.ends_with("slurm/train.sbatch"), "{next}");
    for name in ["train", "prep", "scaling", "sweep"] {
        let text = fs::read_to_string(format!("{REPOSITORY}/slurm/{name}.sbatch")).unwrap();
        let body = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let last = format!("{name}_job slurm/{name}.sbatch");
        assert_eq!(body.skip(1).collect::<Vec<_>>(), [last]);
    }
}

#[test]
fn what_is_missing_is_one_line_that_says_what_to_do() {
    let job = || Job::new(&["node1", "node2"]);
    let train = "pbs/gpuvolta.pbs";
    for (job, file, said) in [
        (
            job().without("PBS_JOBID"),
            train,
            "give it to qsub or sbatch",
        ),
        (
            job().without("PBS_NODEFILE"),
            train,
            "the batch system names no host",
        ),
        (
            job().with("PBS_NODEFILE", "/nowhere"),
            train,
            "PBS_NODEFILE=/nowhere: no such file",
        ),
        (
            job().without("DATA"),
            train,
            "DATA is not given: -v DATA=FILE.h5",
        ),
        (
            job().with("DATA", "no.h5"),
            train,
            "no.h5: cannot be read on node1",
        ),
        (
            job().with("PBS_NGPUS", "3"),
            train,
            "3 ranks on 2 hosts (node1 node2)",
        ),
        (
            job().with("PBS_NGPUS", "four"),
            train,
            "PBS_NGPUS=four is no number",
        ),
        (job().with("RANKS", "0"), train, "0 ranks on 2 hosts"),
        (job().with("RUN", "my run"), train, "no names with blanks"),
        (job().with("SITE", "moon"), train, "SITE=moon: there is no"),
        (
            job().with("MAX_RESUBMITS", "all"),
            train,
            "MAX_RESUBMITS=all is no number",
        ),
        (
            job().with("TFBIND_SETTINGS", "/nowhere"),
            train,
            "TFBIND_SETTINGS=/nowhere: no such file",
        ),
        (
            job().with("TFBIND_HOME", "/nowhere"),
            train,
            "/nowhere/pbs/job.sh",
        ),
        (job(), "pbs/prep.pbs", "PREP is not given"),
        (job(), "pbs/sweep.pbs", "SWEEP=: give the file"),
    ] {
        let ended = job.run(file);
        assert_eq!(
            ended.code,
            Some(2),
            "{said}: {}{}",
            ended.said,
            ended.errors
        );
        assert_eq!(ended.errors.lines().count(), 1, "{}", ended.errors);
        assert!(ended.errors.contains(said), "{said}: {}", ended.errors);
    }
}

#[test]
fn what_the_site_demands_of_qsub_stands_in_one_file_of_the_user() {
    let job = Job::new(&["node1"]);
    fs::write(
        job.path("settings"),
        "PROJECT=ab12 STORAGE=gdata/ab12\nTRAIN='--epochs 3'\nDATA=other.h5\n",
    )
    .unwrap();
    let settings = job.path("settings").display().to_string();
    let job = job.with("TFBIND_SETTINGS", &settings).without("DATA");
    let submit = |arguments: &[&str]| {
        let mut command = job.command("pbs/submit");
        let _ = fs::remove_file(job.path("calls"));
        let output = command
            .args(arguments)
            .current_dir(job.run.dir.path())
            .output()
            .unwrap();
        let calls = fs::read_to_string(job.path("calls")).unwrap_or_default();
        (output, calls)
    };
    let (_, calls) = submit(&["gpuvolta", "DATA=data.h5", "-l", "ngpus=8,ncpus=96"]);
    let handed = job.path("runs/data/job/settings").display().to_string();
    assert!(
        calls.starts_with("qsub -P ab12 -l storage=gdata/ab12 -v TFBIND_HOME="),
        "{calls}"
    );
    assert!(
        calls.contains(&format!("TFBIND_SETTINGS={handed} -l ngpus=8,ncpus=96")),
        "{calls}"
    );
    let handed = fs::read_to_string(&handed).unwrap();
    assert!(
        handed.contains("TRAIN=--epochs\\ 3") && handed.contains("data.h5"),
        "{handed}"
    );
    let (output, calls) = submit(&["gpuvolta", "DATUM=data.h5"]);
    assert!(!output.status.success() && calls.is_empty());
}

/// Directives that satisfy the rules of Gadi's queues, and nothing of the user's.
#[test]
fn every_job_file_is_its_directives_and_one_call() {
    let mut bodies = Vec::new();
    for name in [
        "prep",
        "gpuvolta",
        "dgxa100",
        "gpuhopper",
        "scaling",
        "sweep",
    ] {
        let text = fs::read_to_string(format!("{REPOSITORY}/pbs/{name}.pbs")).unwrap();
        let directives: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("#PBS "))
            .collect();
        let asked = |what: &str| {
            let start = format!("#PBS -l {what}=");
            let found = directives.iter().find_map(|line| line.strip_prefix(&start));
            found.map(|value| value.trim_end_matches("GB").to_string())
        };
        let count = |what| asked(what).map_or(0, |value| value.parse::<u32>().unwrap());
        // Cores a GPU, cores and GB of a node; CPU nodes of `normal` have 4 GB a core.
        let (per_gpu, cores, memory) =
            match directives.iter().find_map(|l| l.strip_prefix("#PBS -q ")) {
                Some("gpuvolta") => (12, 48, 382),
                Some("dgxa100") => (16, 128, 2000),
                Some("gpuhopper") => (12, 48, 1000),
                Some("normal") => (0, 48, 192),
                other => panic!("{name}: {other:?}"),
            };
        assert!(
            per_gpu == 0 || count("ncpus") == per_gpu * count("ngpus"),
            "{name}"
        );
        assert!(
            count("ncpus") > 0 && count("mem") * cores <= memory * count("ncpus"),
            "{name}"
        );
        assert!(count("jobfs") > 0 && asked("walltime").is_some(), "{name}");
        for wanted in ["#PBS -l wd", "#PBS -r y"] {
            assert!(directives.contains(&wanted), "{name}: {wanted}");
        }
        let own = |line: &&&str| {
            line.starts_with("#PBS -P") || line.starts_with("#PBS -M") || line.contains("storage")
        };
        assert_eq!(directives.iter().find(own), None);
        let body = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let body: Vec<_> = body.map(|line| line.to_string()).collect();
        assert_eq!(body.len(), 2, "{body:?}");
        bodies.push(body[0].clone());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
}

#[test]
fn shellcheck_finds_nothing() {
    let script = "shellcheck pbs/*.sh pbs/*.pbs pbs/submit slurm/* tests/pbs/fake";
    let mut command = Command::new("bash");
    match command
        .args(["-c", script])
        .current_dir(REPOSITORY)
        .output()
    {
        Ok(output) if output.status.code() == Some(127) => {
            eprintln!("shellcheck is not installed: not checked")
        }
        output => {
            let output = output.unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stdout)
            );
        }
    }
}
