//! Was this CPU feature detected?
#[cfg(target_arch = "x86_64")]
macro_rules! feature {
    ($name:tt) => {
        is_x86_feature_detected!($name)
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! feature {
    ($name:tt) => {
        std::arch::is_aarch64_feature_detected!($name)
    };
}
