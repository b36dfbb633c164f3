//! Instruction sets: what this machine has, and what may be used of it.
use std::sync::OnceLock;

/// A generation of vector instructions; a greater one includes the lesser ones of its architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// None, on every machine.
    Scalar,
    /// 16 bytes, on every aarch64.
    Neon,
    /// 16 bytes, on every x86-64.
    Sse2,
    /// SSE4.1 with SSSE3: 16 bytes with byte products, since 2008.
    Sse4,
    /// 32 bytes of floats, since 2011.
    Avx,
    /// 32 bytes with FMA, since 2013.
    Avx2,
    /// 64 bytes: F and BW, since 2017.
    Avx512,
}

impl Tier {
    /// All of them, best first.
    pub const ALL: [Tier; 7] =
        [Tier::Avx512, Tier::Avx2, Tier::Avx, Tier::Sse4, Tier::Sse2, Tier::Neon, Tier::Scalar];

    /// Its name, as `PROXIMADB_SIMD` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Scalar => "scalar",
            Tier::Neon => "neon",
            Tier::Sse2 => "sse2",
            Tier::Sse4 => "sse4",
            Tier::Avx => "avx",
            Tier::Avx2 => "avx2",
            Tier::Avx512 => "avx512",
        }
    }

    /// Does this machine have it?
    pub fn is_here(self) -> bool {
        match self {
            Tier::Scalar => true,
            #[cfg(target_arch = "aarch64")]
            Tier::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "x86_64")]
            Tier::Sse2 => is_x86_feature_detected!("sse2"),
            #[cfg(target_arch = "x86_64")]
            Tier::Sse4 => is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3"),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx => is_x86_feature_detected!("avx"),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            _ => false,
        }
    }

    /// The best that may be used: the machine's, or what `PROXIMADB_SIMD` names.
    #[inline]
    pub fn allowed() -> Tier {
        static ALLOWED: OnceLock<Tier> = OnceLock::new();
        *ALLOWED.get_or_init(|| {
            let wanted = std::env::var("PROXIMADB_SIMD").unwrap_or_default();
            let (tier, complaint) = Tier::choose(&wanted);
            if let Some(complaint) = complaint {
                eprintln!("{complaint}");
            }
            tier
        })
    }

    /// What `wanted` asks for, or the best with a word on why not.
    pub(crate) fn choose(wanted: &str) -> (Tier, Option<String>) {
        let here = || Tier::ALL.into_iter().filter(|tier| tier.is_here());
        let best = here().next().unwrap_or(Tier::Scalar);
        if wanted.is_empty() || wanted == "auto" {
            return (best, None);
        }
        match here().find(|tier| tier.name() == wanted) {
            Some(tier) => (tier, None),
            None => {
                let names: Vec<&str> = here().map(Tier::name).collect();
                let complaint = format!(
                    "PROXIMADB_SIMD={wanted} is not available on this machine, which has {}; using {}",
                    names.join(", "),
                    best.name()
                );
                (best, Some(complaint))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_tier_falls_back_to_the_best_and_says_so() {
        let best = Tier::choose("").0;
        assert!(best.is_here() && Tier::ALL.into_iter().all(|tier| tier <= best || !tier.is_here()));
        let (tier, complaint) = Tier::choose("altivec");
        assert_eq!(tier, best);
        let complaint = complaint.unwrap();
        assert!(complaint.contains("PROXIMADB_SIMD=altivec") && complaint.contains("scalar"), "{complaint}");
        assert_eq!(Tier::choose("scalar"), (Tier::Scalar, None));
        assert_eq!(Tier::choose("auto"), (best, None));
    }
}
