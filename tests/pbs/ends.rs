//! The ends of a job: done, cut by the wall time and gone on with, deleted, failed; and the page it leaves.

use std::{env, fs, os::unix::fs::symlink, path::Path, process::Command, thread, time::Duration};

use super::faked::{Job, REPOSITORY};

#[test]
fn before_the_wall_time_it_saves_and_goes_on_in_another_job_so_many_times() {
    let job = Job::new(&["node1"])
        .with("TRAIN", "--epochs 30 --from a.toml --lr 0.1")
        .with("MAX_RESUBMITS", "2")
        .with("PBS_O_QUEUE", "gpuvolta")
        .qstat(
            "project = ab12\nResource_List.walltime = 00:00:05\nResource_List.ngpus = 4\nResource_List.ncpus = 48\n\
             Resource_List.mem = 400000kb\nResource_List.storage = gdata/ab12\njob_state = R",
        )
        .with("MARGIN", "1")
        .touch("endless");
    let ended = job.run("pbs/gpuvolta.pbs");
    assert_eq!(ended.code, Some(75), "{}", ended.errors);
    let job = job.touch("cut");
    let settings = job.path("runs/data/job/settings").display().to_string();
    let qsub = ended.call("qsub").to_string();
    for part in [
        "-P ab12",
        "-q gpuvolta",
        "-l walltime=00:00:05,ncpus=48,ngpus=4,mem=400000kb,storage=gdata/ab12",
        &format!("TFBIND_SETTINGS={settings}"),
        "home/pbs/gpuvolta.pbs",
    ] {
        assert!(qsub.contains(part), "{part}: {qsub}");
    }
    assert!(job.report("runs/data").contains("goes on in job 12.fake"));

    // The next job has nothing but that file of settings; it resumes, without the settings of another run.
    let job = job
        .without("TRAIN")
        .without("DATA")
        .without("MAX_RESUBMITS")
        .without("MARGIN")
        .with("TFBIND_SETTINGS", &settings);
    let ended = job.run("pbs/gpuvolta.pbs");
    let train = ended.call("tfbind-mpi train");
    assert!(train.contains("--epochs 30 --lr 0.1 --resume"), "{train}");
    assert!(!train.contains("--from"), "{train}");
    ended.call("qsub");

    let ended = job.run("pbs/gpuvolta.pbs");
    assert_eq!(ended.code, Some(75));
    assert!(!ended.calls.iter().any(|call| call.starts_with("qsub")));
    assert!(job.report("runs/data").contains("MAX_RESUBMITS=2"));
}

#[test]
fn a_job_that_gets_nowhere_fails_or_is_deleted_is_not_submitted_again() {
    let not_again = |job: Job, code, why: &str| {
        let ended = job.run("pbs/gpuvolta.pbs");
        assert_eq!(ended.code, Some(code), "{}{}", ended.said, ended.errors);
        assert!(!ended.calls.iter().any(|call| call.starts_with("qsub")));
        let all = ended.said + &ended.errors;
        assert!(all.contains(why), "{all}");
    };
    not_again(
        Job::new(&["node1"]).touch("cut").touch("standstill"),
        75,
        "no step was saved",
    );
    not_again(Job::new(&["node1"]).touch("sick"), 2, "doctor found");

    for (signal, state, again) in [
        (
            "-TERM",
            "job_state = R\ncomment = Job run at noon on (node1:ngpus=4:ncpus=48) and termi\n\tnated by me",
            false,
        ),
        ("-TERM", "job_state = R", true),
        ("-USR1", "job_state = E", true),
    ] {
        let job = Job::new(&["node1"]).qstat(state).touch("endless");
        let mut process = job.command("pbs/gpuvolta.pbs").spawn().unwrap();
        let calls = || fs::read_to_string(job.path("calls")).unwrap_or_default();
        while !calls().contains("tfbind-mpi train") {
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_millis(200));
        let id = process.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(process.wait().unwrap().code(), Some(75));
        assert_eq!(calls().contains("qsub"), again, "{signal} {state}");
        assert!(job.path("runs/data/last.safetensors").exists());
    }
}

#[test]
fn a_page_says_what_the_job_took_and_gave() {
    let job = Job::new(&["node1"])
        .with("PBS_NCPUS", "48")
        .touch("sampled");
    job.run("pbs/gpuvolta.pbs").ok();
    let report = job.report("runs/data");
    for line in [
        "ended         done",
        "GPU busy      85 % of the time (2 samples on node1)",
        "samples/s     512.3",
        "steps         0 to 2 in this job; epoch 2",
        "validation    pr_auc 0.5100  auroc 0.9000",
        "test          pr_auc 0.5250  auroc 0.9100",
    ] {
        assert!(report.contains(line), "{line}: {report}");
    }
    // Service units by NCI's examples: 12 cores for 5 hours; the same with a whole node's memory; a job's own log.
    for (queue, cpus, memory, seconds, units) in [
        ("gpuvolta", 12, "90gb", 18_000, "180.00"),
        ("gpuvolta", 12, "380gb", 18_000, "716.23"),
        ("normal", 8, "128gb", 18_000, "320.00"),
        ("dgxa100", 16, "", 974, "19.48"),
        ("workq", 16, "", 974, ""),
    ] {
        let script = format!(
            ". {REPOSITORY}/pbs/batch.sh; . {REPOSITORY}/pbs/report.sh; home={REPOSITORY} queue={queue} cpus={cpus} \
             job_facts='Resource_List.mem = {memory}'; service_units {seconds}"
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            units,
            "{queue} {cpus}"
        );
    }
}

/// The programs themselves on two ranks of this host: stopped by a signal, gone on with, evaluated.
#[test]
fn a_real_run_is_cut_and_goes_on() {
    let job = Job::new(&["node1"]);
    let faked = job.path("home/target/release");
    fs::rename(&faked, job.path("faked")).unwrap();
    for name in ["mpirun", "nproc", "nvidia-smi", "tfbind-mpi", "tfbind-prep"] {
        fs::remove_file(job.path("faked").join(name)).unwrap();
    }
    let built = Path::new(env!("CARGO_BIN_EXE_tfbind-mpi"))
        .parent()
        .unwrap();
    symlink(built, &faked).unwrap();
    job.run.write_data(64, |_, _| {});
    let old = env::var("PATH").unwrap();
    let path = format!("{}:{old}", job.path("faked").display());
    let here = job.run.dir.path().display().to_string();
    let job = job
        .with("PATH", &path)
        .with("TMPDIR", &here)
        .with("RANKS", "2")
        .with("DEVICE", "cpu")
        .with("OMPI_MCA_mpi_yield_when_idle", "1")
        .with("OMPI_MCA_odls_base_sigkill_timeout", "1")
        .with("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .with("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .with("TRAIN", "--epochs 999 --batch 2 --threads 1");
    let mut process = job.command("pbs/gpuvolta.pbs").spawn().unwrap();
    let log = job.path("runs/data/metrics.jsonl");
    while !fs::read_to_string(&log).is_ok_and(|text| text.lines().count() > 5) {
        assert!(process.try_wait().unwrap().is_none(), "it ended too soon");
        thread::sleep(Duration::from_millis(50));
    }
    let id = process.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-USR1", &id])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(process.wait().unwrap().code(), Some(75));
    let saved = job.run.last("runs/data").header.progress.step;
    let report = job.report("runs/data");
    assert!(
        report.contains(&format!("0 to {saved} in this job")),
        "{report}"
    );

    let stop = format!("--stop-at {}", saved + 3);
    let settings = job.path("runs/data/job/settings").display().to_string();
    let job = job
        .with("TFBIND_SETTINGS", &settings)
        .with("TRAIN", &stop)
        .without("DATA");
    let ended = job.run("pbs/gpuvolta.pbs").ok();
    let report = job.report("runs/data");
    let steps = format!("{saved} to {} in this job", saved + 3);
    assert!(
        report.contains(&steps) && report.contains("2 of this run"),
        "{report}{}",
        ended.said
    );
    assert!(report.contains("test          pr_auc 0."), "{report}");
}
