//! Neighbour lists: one row of slots per node, filled from the left. Words while a graph is built, three
//! bytes a slot in files and in memory where row numbers fit: links are most of what a graph takes
//! besides codes.
use proximadb_kernels::links;
use proximadb_kernels::prefetch;

pub(super) use proximadb_kernels::links::SPARE;

/// An empty slot. All slots after it are empty too.
pub(super) const NONE: u32 = u32::MAX;

/// Slots per node are a multiple of this, so that every list starts on a cache line.
pub(super) const SLOTS_STEP: usize = 16;

/// Most rows a graph can have: `Near` has 31 bits for a row's number.
pub(super) const ROWS_MAX: usize = 1 << 31;

/// Slots for lists of up to `links_max`.
pub(super) fn slots_for(links_max: usize) -> usize {
    links_max.next_multiple_of(SLOTS_STEP).max(SLOTS_STEP)
}

/// Lists to walk along.
pub(super) trait Lists: Copy {
    /// Number of nodes.
    fn len(self) -> usize;

    /// No list is longer.
    fn longest(self) -> usize;

    /// A node's neighbours.
    fn neighbours(self, row: u32) -> impl Iterator<Item = u32>;

    /// Asks for a node's list, which will be read soon.
    fn prefetch(self, row: u32);

    /// Writes the neighbours that are in one of two sets (words of bits) to the front of `inside`, and the others
    /// to that of `outside` unless that is empty. Returns how many of each there are. Both have room for [`SPARE`]
    /// more than the longest list.
    #[inline]
    fn split(
        self,
        row: u32,
        set: &[u64],
        also: &[u64],
        inside: &mut [u32],
        outside: &mut [u32],
    ) -> (usize, usize) {
        let has = |set: &[u64], row: u32| {
            set.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
        };
        self.split_by(row, |row| has(set, row) || has(also, row), inside, outside)
    }

    /// The same by what a function says.
    #[inline]
    fn split_by(
        self,
        row: u32,
        is_inside: impl Fn(u32) -> bool,
        inside: &mut [u32],
        outside: &mut [u32],
    ) -> (usize, usize) {
        let (mut yes, mut no) = (0, 0);
        for neighbour in self.neighbours(row) {
            // Written anyway and counted if it holds: a wrong guess of the processor costs more.
            let is_inside = is_inside(neighbour);
            inside[yes] = neighbour;
            yes += usize::from(is_inside);
            if let Some(place) = outside.get_mut(no) {
                *place = neighbour;
            }
            no += usize::from(!is_inside);
        }
        (yes, no)
    }
}

/// Lists of a graph that is being built.
#[derive(Clone, Copy)]
pub(super) struct Links<'a> {
    slots: &'a [u32],
    slots_per_node: usize,
}

impl Lists for Links<'_> {
    fn len(self) -> usize {
        self.slots.len() / self.slots_per_node
    }

    fn longest(self) -> usize {
        self.slots_per_node
    }

    #[inline]
    fn neighbours(self, row: u32) -> impl Iterator<Item = u32> {
        self.slots_of(row).iter().copied().take_while(|&slot| slot != NONE)
    }

    #[inline]
    fn prefetch(self, row: u32) {
        prefetch::read(self.slots_of(row));
    }
}

/// Lists of a graph that is read: `WIDTH` bytes a slot, the lowest first; an empty one is all ones.
#[derive(Clone, Copy)]
pub(super) struct PackedLinks<'a, const WIDTH: usize> {
    slots: &'a [[u8; WIDTH]],
    slots_per_node: usize,
}

/// Bytes of a slot that can number so many rows.
pub(super) fn width_for(rows: usize) -> usize {
    if rows < 1 << 24 { 3 } else { 4 }
}

impl<'a, const WIDTH: usize> PackedLinks<'a, WIDTH> {
    /// `bytes` holds whole rows of slots.
    pub(super) fn new(bytes: &'a [u8], slots_per_node: usize) -> PackedLinks<'a, WIDTH> {
        PackedLinks { slots: bytes.as_chunks::<WIDTH>().0, slots_per_node }
    }

    #[inline]
    fn slots_of(self, row: u32) -> &'a [[u8; WIDTH]] {
        let start = row as usize * self.slots_per_node;
        &self.slots[start..start + self.slots_per_node]
    }

    /// Are all slots behind a list's end empty?
    pub(super) fn ends_cleanly(self, row: u32) -> bool {
        let empty = [u8::MAX; WIDTH];
        self.slots_of(row).iter().skip_while(|&&slot| slot != empty).all(|&slot| slot == empty)
    }
}

impl<const WIDTH: usize> Lists for PackedLinks<'_, WIDTH> {
    fn len(self) -> usize {
        self.slots.len() / self.slots_per_node.max(1)
    }

    fn longest(self) -> usize {
        self.slots_per_node
    }

    #[inline]
    fn neighbours(self, row: u32) -> impl Iterator<Item = u32> {
        let slots = self.slots_of(row).iter().take_while(|&&slot| slot != [u8::MAX; WIDTH]);
        slots.map(|slot| {
            let mut word = [0; 4];
            word[..WIDTH].copy_from_slice(slot);
            u32::from_le_bytes(word)
        })
    }

    #[inline]
    fn split(
        self,
        row: u32,
        set: &[u64],
        also: &[u64],
        inside: &mut [u32],
        outside: &mut [u32],
    ) -> (usize, usize) {
        links::split(self.slots_of(row), set, also, inside, outside)
    }

    #[inline]
    fn prefetch(self, row: u32) {
        prefetch::read(self.slots_of(row));
    }
}

/// Writes a list of up to `slots` neighbours in slots of `width` bytes.
pub(super) fn pack(neighbours: &[u32], slots: usize, width: usize, out: &mut Vec<u8>) {
    neighbours.iter().for_each(|row| out.extend(&row.to_le_bytes()[..width]));
    out.resize(out.len() + (slots - neighbours.len()) * width, u8::MAX);
}

impl<'a> Links<'a> {
    /// All slots, node by node.
    pub(super) fn slots(self) -> &'a [u32] {
        self.slots
    }

    /// `slots` holds whole rows of slots.
    pub(super) fn new(slots: &'a [u32], slots_per_node: usize) -> Links<'a> {
        Links { slots, slots_per_node }
    }

    /// Are all slots behind a list's end empty?
    pub(super) fn ends_cleanly(self, row: u32) -> bool {
        self.slots_of(row).iter().skip_while(|&&slot| slot != NONE).all(|&slot| slot == NONE)
    }

    /// A node's slots, the empty ones too.
    #[inline]
    pub(super) fn slots_of(self, row: u32) -> &'a [u32] {
        let start = row as usize * self.slots_per_node;
        &self.slots[start..start + self.slots_per_node]
    }

    /// A node's neighbours.
    pub(super) fn of(self, row: u32) -> &'a [u32] {
        let slots = self.slots_of(row);
        let used = slots.iter().position(|&slot| slot == NONE).unwrap_or(slots.len());
        &slots[..used]
    }
}

/// Lists to write.
pub(super) struct LinksMut {
    slots: Vec<u32>,
    slots_per_node: usize,
}

impl LinksMut {
    /// `nodes` empty lists of up to `slots_per_node`.
    pub(super) fn empty(nodes: usize, slots_per_node: usize) -> LinksMut {
        LinksMut { slots: vec![NONE; nodes * slots_per_node], slots_per_node }
    }

    pub(super) fn view(&self) -> Links<'_> {
        Links { slots: &self.slots, slots_per_node: self.slots_per_node }
    }

    /// Replaces a node's list. Panics if it is longer than the slots.
    pub(super) fn set(&mut self, row: u32, neighbours: &[u32]) {
        let slots = self.slots_mut(row);
        let (used, empty) = slots.split_at_mut(neighbours.len());
        used.copy_from_slice(neighbours);
        empty.fill(NONE);
    }

    /// The slots of `nodes` nodes at a time, a list after the other; and how many slots a node has.
    pub(super) fn parts_mut(&mut self, nodes: usize) -> (impl Iterator<Item = &mut [u32]>, usize) {
        (self.slots.chunks_mut(nodes * self.slots_per_node), self.slots_per_node)
    }

    /// Adds to a node's list if there is room for all; tells whether there was.
    pub(super) fn append(&mut self, row: u32, neighbours: impl ExactSizeIterator<Item = u32>) -> bool {
        let used = self.view().of(row).len();
        if used + neighbours.len() > self.slots_per_node {
            return false;
        }
        for (slot, neighbour) in self.slots_mut(row)[used..].iter_mut().zip(neighbours) {
            *slot = neighbour;
        }
        true
    }

    /// Replaces one neighbour.
    pub(super) fn replace(&mut self, row: u32, at: usize, neighbour: u32) {
        self.slots_mut(row)[at] = neighbour;
    }

    /// Leaves so many slots per node, which no list is longer than.
    pub(super) fn shrink(&mut self, slots_per_node: usize) {
        let shorter = self.slots.chunks(self.slots_per_node).flat_map(|slots| &slots[..slots_per_node]);
        self.slots = shorter.copied().collect();
        self.slots_per_node = slots_per_node;
    }

    fn slots_mut(&mut self, row: u32) -> &mut [u32] {
        let start = row as usize * self.slots_per_node;
        &mut self.slots[start..start + self.slots_per_node]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_lists_are_what_was_written() {
        fn check<const WIDTH: usize>(lists: &[Vec<u32>]) {
            let mut bytes = Vec::new();
            lists.iter().for_each(|list| pack(list, 5, WIDTH, &mut bytes));
            assert_eq!(bytes.len(), lists.len() * 5 * WIDTH);
            let packed = PackedLinks::<WIDTH>::new(&bytes, 5);
            assert_eq!((packed.len(), packed.longest()), (lists.len(), 5));
            for (row, list) in lists.iter().enumerate() {
                assert_eq!(packed.neighbours(row as u32).collect::<Vec<_>>(), *list);
                assert!(packed.ends_cleanly(row as u32));
            }
        }
        let mut lists = vec![vec![], vec![0], vec![255, 256, 65_536, (1 << 24) - 2, 7]];
        check::<3>(&lists);
        lists.push(vec![u32::MAX - 1, 1 << 30]);
        check::<4>(&lists);
        assert_eq!([width_for(0), width_for((1 << 24) - 1), width_for(1 << 24)], [3, 3, 4]);
        let mut bytes = Vec::new();
        pack(&[1], 3, 3, &mut bytes);
        bytes[6] = 0;
        assert!(!PackedLinks::<3>::new(&bytes, 3).ends_cleanly(0), "something behind the end");
    }
}
