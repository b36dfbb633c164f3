//! Plain loops, compiled once for each level.
//!
//! Sums of whole numbers may be taken in any order, so the compiler makes of one loop what each instruction
//! set is best at, and there is nothing to write by hand. The calling module has `dot` and `l2_squared`, always
//! inlined, as the scalar twins.
macro_rules! compiled {
    ($module:ident, [$query:ty, $row:ty, $out:ty], $(#[$feature:meta])*) => {
        mod $module {
            $(#[$feature])*
            #[inline]
            pub(super) fn dot(a: &[$query], b: &[$row]) -> $out {
                super::dot(a, b)
            }

            $(#[$feature])*
            #[inline]
            pub(super) fn l2_squared(a: &[$query], b: &[$row]) -> $out {
                super::l2_squared(a, b)
            }

            row_forms!(dot, dot_many, dot_ids, [$query, $row, $out], $(#[$feature])*);
            row_forms!(l2_squared, l2_squared_many, l2_squared_ids, [$query, $row, $out], $(#[$feature])*);
        }
    };
}
