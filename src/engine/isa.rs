//! Which of the native engine's kernels the CPU at hand runs.

use anyhow::{Context, Result};

/// Overrules the choice, for comparisons.
const WISH: &str = "TFBIND_ISA";

/// Instruction sets the native engine has kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Isa {
    /// The fastest first, each as it is asked for.
    const ALL: &[(Isa, &str)] = &[
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, "avx512"),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, "avx2"),
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon, "neon"),
    ];

    pub fn here(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            // Part of the architecture.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
        }
    }

    /// The best that this CPU has, or a lesser one that is wished for.
    pub fn best() -> Result<Isa> {
        let here = || Isa::ALL.iter().filter(|(isa, _)| isa.here());
        let found = match std::env::var(WISH) {
            Err(_) => here()
                .next()
                .context("this CPU has neither AVX-512 nor AVX2 with FMA, and is no 64-bit ARM")?,
            Ok(wish) => here().find(|(_, name)| *name == wish).with_context(|| {
                let names: Vec<&str> = here().map(|(_, name)| *name).collect();
                format!("{WISH}={wish}: this CPU has {}", names.join(", "))
            })?,
        };
        Ok(found.0)
    }

    /// A wish for what is not there is an error, also where another engine could do.
    pub fn check_wish() -> Result<()> {
        match std::env::var_os(WISH) {
            Some(_) => Isa::best().map(|_| ()),
            None => Ok(()),
        }
    }
}

/// Whether convolutions can multiply pairs of bf16.
pub fn bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Isa::Avx512.here() && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}
