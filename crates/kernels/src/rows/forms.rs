//! One distance in its three forms, and the distances of one level.
use crate::simd::Tier;

type Pair<Q, T, O> = unsafe fn(&[Q], &[T]) -> O;
type Many<Q, T, O> = unsafe fn(&[Q], &[T], &mut [O]);
type Ids<Q, T, O> = unsafe fn(&[Q], &[T], &[u32], &mut [O]);

/// One distance: of a pair, of many rows, of rows by number. `Q`, `T` and `O` are the elements of the query,
/// of the rows, and the result.
pub struct Forms<Q: 'static, T: 'static, O: 'static> {
    pub(super) pair: Pair<Q, T, O>,
    pub(super) many: Many<Q, T, O>,
    pub(super) ids: Ids<Q, T, O>,
}

impl<Q, T, O: Copy + Default> Forms<Q, T, O> {
    /// Of one pair. Panics if the lengths differ.
    #[inline]
    pub fn pair(&self, query: &[Q], row: &[T]) -> O {
        assert_eq!(query.len(), row.len(), "vectors differ in length");
        // SAFETY: R1, only the distances of a level that is here can be had.
        unsafe { (self.pair)(query, row) }
    }

    /// `out[i]` is that of `query` and row `i` of `rows`, which lie one behind the other. Panics unless
    /// `rows` holds `out.len()` rows of `query.len()`.
    #[inline]
    pub fn many(&self, query: &[Q], rows: &[T], out: &mut [O]) {
        assert_eq!(Some(rows.len()), query.len().checked_mul(out.len()), "rows and results differ in number");
        if query.is_empty() {
            out.fill(O::default()); // without components every distance is 0
            return;
        }
        // SAFETY: as in `pair`.
        unsafe { (self.many)(query, rows, out) }
    }

    /// `out[i]` is that of `query` and row `ids[i]` of `rows`, prefetched. Panics if `ids` and `out` differ
    /// in length or a row isn't there.
    #[inline]
    pub fn ids(&self, query: &[Q], rows: &[T], ids: &[u32], out: &mut [O]) {
        assert_eq!(ids.len(), out.len(), "ids and results differ in number");
        // SAFETY: as in `pair`.
        unsafe { (self.ids)(query, rows, ids, out) }
    }
}

/// The distances of one level.
pub struct Distances<Q: 'static, T: 'static, O: 'static> {
    pub(super) name: &'static str,
    pub(super) tier: Tier,
    pub(super) supported: fn() -> bool,
    /// Sum of products.
    pub dot: Forms<Q, T, O>,
    /// Sum of squared differences.
    pub l2_squared: Forms<Q, T, O>,
}

impl<Q, T, O> Distances<Q, T, O> {
    /// The level's name: a [`Tier`]'s, or a part of one.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Those of `levels` that this machine has.
    pub(super) fn here(levels: &'static [Self]) -> impl Iterator<Item = &'static Self> {
        levels.iter().filter(|level| level.tier.is_here() && (level.supported)())
    }

    /// The first of `levels`, best first, that may be used. The last one runs everywhere.
    pub(super) fn best(levels: &'static [Self]) -> &'static Self {
        Self::here(levels).find(|level| level.tier <= Tier::allowed()).unwrap_or(&levels[levels.len() - 1])
    }
}

/// One level from its module.
macro_rules! distances {
    ($name:literal, $tier:ident, $module:ident $(, $feature:tt)*) => {
        $crate::rows::Distances {
            name: $name,
            tier: $crate::simd::Tier::$tier,
            supported: || true $(&& feature!($feature))*,
            dot: $crate::rows::Forms {
                pair: $module::dot,
                many: $module::dot_many,
                ids: $module::dot_ids,
            },
            l2_squared: $crate::rows::Forms {
                pair: $module::l2_squared,
                many: $module::l2_squared_many,
                ids: $module::l2_squared_ids,
            },
        }
    };
}
pub(super) use distances;

/// `available` and `active` of a module with `LEVELS`.
macro_rules! choose_level {
    ($distances:ty) => {
        /// Every level this machine has, best first.
        pub fn available() -> impl Iterator<Item = &'static $distances> {
            <$distances>::here(LEVELS)
        }

        /// The level in use: the best that [`Tier::allowed`](crate::simd::Tier::allowed) includes.
        #[inline]
        pub fn active() -> &'static $distances {
            static ACTIVE: std::sync::OnceLock<&'static $distances> = std::sync::OnceLock::new();
            ACTIVE.get_or_init(|| <$distances>::best(LEVELS))
        }
    };
}
pub(super) use choose_level;
