//! Neighbour lists: one row of slots per node, filled from the left.

/// An empty slot. All slots after it are empty too.
pub(super) const NONE: u32 = u32::MAX;

/// Slots per node are a multiple of this, so that every list starts on a cache line.
pub(super) const SLOTS_STEP: usize = 16;

/// Most rows a graph can have: above it, row numbers would meet [`NONE`].
pub(super) const ROWS_MAX: usize = u32::MAX as usize - 1;

/// Slots for lists of up to `links_max`.
pub(super) fn slots_for(links_max: usize) -> usize {
    links_max.next_multiple_of(SLOTS_STEP).max(SLOTS_STEP)
}

/// Lists to read.
#[derive(Clone, Copy)]
pub(super) struct Links<'a> {
    pub(super) slots: &'a [u32],
    pub(super) slots_per_node: usize,
}

impl<'a> Links<'a> {
    /// Number of nodes.
    pub(super) fn len(self) -> usize {
        self.slots.len() / self.slots_per_node
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

    fn slots_mut(&mut self, row: u32) -> &mut [u32] {
        let start = row as usize * self.slots_per_node;
        &mut self.slots[start..start + self.slots_per_node]
    }
}
