//! NCCL without a GPU: a library that takes its place and sums tensors on the CPU, or fails as it is told to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};
use tfbind_mpi::{
    comm::{Comm, Nccl, Solo},
    job::on_all_ranks,
};

use crate::common::{Run, mpirun};

/// More than one slot of the fake, and not a whole number of them.
const NUMEL: i64 = 2_345;
const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

fn fake(run: &Run) -> PathBuf {
    let library = run.path("libnccl_fake.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_nccl.c");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .output()
        .expect("cc runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    library
}

/// `what_ranks_do` on so many ranks, and how long it took.
fn job(run: &Run, ranks: usize, act: &str, fails: &str, rank: usize) -> (Output, Duration) {
    let (library, own) = (fake(run), std::env::current_exe().unwrap());
    let start = Instant::now();
    let output = mpirun(ranks, own.to_str().unwrap(), run.dir.path())
        .args(["--exact", "nccl::what_ranks_do", "--nocapture"])
        .env("TFBIND_NCCL_CHILD", act)
        .env("TFBIND_NCCL_LIBRARY", library)
        .env("FAKE_NCCL_FOLDER", run.dir.path())
        .env("FAKE_NCCL_FAILS", fails)
        .env("FAKE_NCCL_RANK", rank.to_string())
        .output()
        .unwrap();
    (output, start.elapsed())
}

fn error_line(output: &Output) -> String {
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = error.lines().filter(|l| l.contains("error:")).collect();
    assert_eq!(lines.len(), 1, "{error}");
    lines[0].to_string()
}

/// Runs only as a child of the tests below.
#[test]
fn what_ranks_do() {
    let Some(act) = std::env::var_os("TFBIND_NCCL_CHILD") else {
        return;
    };
    let library = PathBuf::from(std::env::var_os("TFBIND_NCCL_LIBRARY").unwrap());
    let code = on_all_ranks(Duration::from_secs(60), |comm| {
        // One rank without the library: the others must not wait for it.
        let missing = act == "miss" && comm.rank() == 1;
        let library = if missing {
            library.with_extension("no")
        } else {
            library
        };
        let nccl = Nccl::start(comm, Some(&library), None)?;
        match act.to_str().unwrap() {
            "sum" => sums_equal_those_of_mpi(comm, &nccl)?,
            "uneven" => nccl.sum(
                &values(comm, 5 + comm.rank() as i64),
                &values(comm, 5 + comm.rank() as i64),
            )?,
            "leave" => ensure!(comm.rank() != 1, "rank 1 leaves on purpose"),
            _ => {}
        }
        if act == "leave" {
            comm.barrier();
        }
        nccl.check()?;
        nccl.finish()?;
        Ok(ExitCode::SUCCESS)
    });
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
}

/// Quarters below 2^10: their sums are exact in f32, so that the order of the ranks does not show.
fn values(comm: &dyn Comm, numel: i64) -> Tensor {
    let index = Tensor::arange(numel, (Kind::Int64, Device::Cpu));
    ((index * (comm.rank() as i64 + 3)).remainder(4_001) - 2_000).to_kind(Kind::Double) / 4.0
}

fn sums_equal_those_of_mpi(comm: &dyn Comm, nccl: &Nccl) -> Result<()> {
    assert_eq!(nccl.version(), "2.31.2");
    let own = values(comm, NUMEL);
    let mut expected = Vec::<f64>::try_from(&own)?;
    comm.sum_f64(&mut expected);
    let expected = Tensor::from_slice(&expected);
    for kind in [Kind::Float, Kind::Double] {
        for _ in 0..3 {
            let send = own.to_kind(kind);
            let recv = Tensor::full([NUMEL], f64::NAN, (kind, Device::Cpu));
            nccl.sum(&send, &recv)?;
            assert!(send == own.to_kind(kind), "what is sent stays");
            assert!(recv.to_kind(Kind::Double) == expected, "{kind:?}");

            // In place, within a larger tensor: the neighbours stay.
            let flat = Tensor::full([NUMEL + 2], 9.0, (kind, Device::Cpu));
            let mut middle = flat.narrow(0, 1, NUMEL);
            middle.copy_(&own);
            nccl.sum(&middle, &middle)?;
            assert!(
                middle.to_kind(Kind::Double) == expected,
                "{kind:?} in place"
            );
            let ends = [flat.double_value(&[0]), flat.double_value(&[NUMEL + 1])];
            assert_eq!(ends, [9.0, 9.0]);
        }
    }
    let empty = Tensor::zeros([0], CPU);
    nccl.sum(&empty, &empty)
}

#[test]
fn sums_on_one_two_and_four_ranks_are_those_of_mpi() {
    for ranks in [1, 2, 4] {
        let run = Run::new();
        let (output, _) = job(&run, ranks, "sum", "", 0);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{ranks} ranks: {error}");
        let calls = fs::read_to_string(run.path("calls")).unwrap();
        let mut calls: Vec<&str> = calls.lines().collect();
        calls.sort();
        let ends: Vec<String> = (0..ranks)
            .map(|rank| format!("rank {rank} destroys"))
            .collect();
        assert_eq!(calls, ends);
    }
}

#[test]
fn what_fails_on_one_rank_ends_all_with_its_words() {
    for (act, fails, rank, expected) in [
        (
            "sum",
            "id",
            0,
            "rank 0 on .*: ncclGetUniqueId: unhandled system error",
        ),
        (
            "sum",
            "init",
            1,
            "rank 1 on .*: ncclCommInitRank: unhandled system error",
        ),
        (
            "sum",
            "remote",
            2,
            "rank 2 on .*: ncclCommInitRank: unhandled system error",
        ),
        (
            "sum",
            "reduce",
            2,
            "rank 2 on .*: ncclAllReduce: invalid usage",
        ),
        (
            "idle",
            "async",
            1,
            "rank 1 on .*: an allreduce under way: unhandled system error",
        ),
        (
            "uneven",
            "",
            0,
            "rank 0 on .*: ncclAllReduce: invalid argument",
        ),
        ("miss", "", 1, "rank 1 on .*libnccl_fake.no: cannot open"),
        ("leave", "", 1, "rank 1 on .*: rank 1 leaves on purpose"),
    ] {
        let run = Run::new();
        let (output, took) = job(&run, 3, act, fails, rank);
        let error = error_line(&output);
        let mut rest = &error[..];
        for part in expected.split(".*") {
            let at = rest.find(part);
            rest = &rest[at.unwrap_or_else(|| panic!("{act} {fails}: {error}")) + part.len()..];
        }
        let hints = act == "leave" || error.contains("--transport mpi");
        assert!(hints, "{error}");
        assert!(took < Duration::from_secs(5), "{act} {fails}: {took:?}");
        if act == "leave" {
            let calls = fs::read_to_string(run.path("calls")).unwrap();
            assert_eq!(calls, "rank 1 aborts\n");
        }
    }
}

#[test]
fn a_library_that_is_missing_or_another_is_named() {
    let error = |path: Option<&Path>| {
        let started = Nccl::start(&Solo, path, None);
        format!("{:#}", started.err().expect("no such library"))
    };
    let said = error(Some(Path::new("nowhere/libnccl.so.2")));
    assert!(said.contains("nowhere/libnccl.so.2: cannot open"), "{said}");
    assert!(
        said.contains("--transport mpi") && !said.contains("nvidia"),
        "{said}"
    );
    let said = error(Some(Path::new("libc.so.6")));
    assert!(
        said.contains("libc.so.6") && said.contains("ncclGetVersion"),
        "{said}"
    );
    // With NCCL installed it goes further than that.
    if let Err(err) = Nccl::start(&Solo, None, None) {
        let said = format!("{err:#}");
        let tried = "nvidia/nccl/lib/libnccl.so.2: ";
        assert!(
            said.contains(tried) || !said.contains("no NCCL found"),
            "{said}"
        );
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let run = Run::new();
    let nccl = Nccl::start(&Solo, Some(&fake(&run)), None).unwrap();
    let three = Tensor::zeros([3], CPU);
    let long = Tensor::zeros([8], CPU);
    for (send, recv, expected) in [
        (
            Tensor::zeros([3], (Kind::Int64, Device::Cpu)),
            three.copy(),
            "Int64",
        ),
        (
            three.copy(),
            Tensor::zeros([4], CPU),
            "3 values of Float do not fit where 4",
        ),
        (
            three.copy(),
            three.to_kind(Kind::Double),
            "of Double are expected",
        ),
        (
            Tensor::zeros([3, 3], CPU).narrow(1, 0, 1),
            three.copy(),
            "gaps",
        ),
        (long.narrow(0, 0, 4), long.narrow(0, 2, 4), "overlap"),
    ] {
        let error = format!("{:#}", nccl.sum(&send, &recv).unwrap_err());
        assert!(error.contains(expected), "{expected}: {error}");
    }
    nccl.sum(&long.narrow(0, 0, 4), &long.narrow(0, 4, 4))
        .unwrap();
    nccl.finish().unwrap();
    if !tch::Cuda::is_available() {
        let started = Nccl::start(&Solo, Some(&fake(&run)), Some(0));
        let error = format!("{:#}", started.err().expect("no GPU"));
        assert!(error.contains("GPU 0 cannot be used"), "{error}");
    }
}
