//! Is the sum of the U-Net's gradient over several hosts faster in two levels (on each host, then between hosts)?
//!
//! Run under mpirun on several hosts, or by `BENCH=levels RANKS=2 benches/overlap.sh` on two namespaces of one machine.

use std::time::{Duration, Instant};

use tfbind_mpi::comm::{Comm, Mpi};

const ROUNDS: usize = 101;

fn main() {
    let mut comm = Mpi::start(Duration::from_secs(60)).expect("MPI starts");
    let of_node = comm.local_size();
    for floats in [475_969, 4_759_690] {
        let own = vec![1f32; floats];
        let mut sums = vec![0f32; floats];
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS + 4 {
            for (levels, times) in [None, Some(of_node)].into_iter().zip(&mut times) {
                comm.sum_by_nodes_of(levels);
                comm.barrier();
                let began = Instant::now();
                comm.sum_into(&own, &mut sums);
                let mut slowest = [0.0; 1];
                slowest[0] = began.elapsed().as_secs_f64();
                comm.sum_f64(&mut slowest);
                // The first rounds open connections.
                if round >= 4 {
                    times.push(slowest[0] / comm.size() as f64);
                }
            }
        }
        assert!(sums.iter().all(|&sum| sum == comm.size() as f32));
        if comm.rank() == 0 {
            let [flat, levels] = times.map(|mut times| {
                times.sort_by(f64::total_cmp);
                (1e3 * times[ROUNDS / 2], 1e3 * times[ROUNDS * 95 / 100])
            });
            println!(
                "{:>5.1} MB, {} ranks of {of_node} a host: one level {:.3} ms (p95 {:.3}), two levels {:.3} ms (p95 {:.3}), \
                 ratio {:.2}",
                floats as f64 * 4e-6,
                comm.size(),
                flat.0,
                flat.1,
                levels.0,
                levels.1,
                flat.0 / levels.0
            );
        }
    }
}
