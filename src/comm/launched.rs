//! What launchers tell a process in its environment, before MPI is started.

use std::env;

/// Its number as a rank: Open MPI's, MPICH's, MVAPICH2's, and that of what stands on PMIx.
pub const RANKS: [&str; 4] = [
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "MV2_COMM_WORLD_RANK",
    "PMIX_RANK",
];
/// Slurm's. It comes after the others and says nothing of a launcher: the script of a job has it too, and an mpirun in it.
pub const SLURM_RANK: &str = "SLURM_PROCID";

/// The variable of the launcher that started this process as a rank.
pub fn launched_by() -> Option<&'static str> {
    RANKS.into_iter().find(|name| env::var_os(name).is_some())
}

/// None: no launcher.
pub fn rank_from_env() -> Option<usize> {
    let mut names = RANKS.into_iter().chain([SLURM_RANK]);
    names.find_map(|name| env::var(name).ok()?.trim().parse().ok())
}
