//! Seeded data for the tests of this folder.
use proximadb_kernels::distance::normalize;

use super::VectorBlock;
use super::random::Random;
use crate::types::Distance;

pub(super) const ALL_DISTANCES: [Distance; 3] = [Distance::L2, Distance::Cosine, Distance::Dot];

/// Rows that own their memory.
pub(super) struct Data {
    pub dim: usize,
    pub rows: Vec<f32>,
    pub distance: Distance,
}

impl Data {
    pub fn block(&self) -> VectorBlock<'_> {
        VectorBlock { dim: self.dim, rows: &self.rows, distance: self.distance }
    }

    /// Takes the last rows away, as queries from the same distribution.
    pub fn split_off(&mut self, count: usize) -> Vec<Vec<f32>> {
        let rest = self.rows.split_off(self.rows.len() - count * self.dim);
        rest.chunks(self.dim).map(<[f32]>::to_vec).collect()
    }
}

/// Points around 20 centres, some crowded and some sparse, with 8 latent directions and a little noise;
/// normalised for cosine, of very different lengths for dot.
pub(super) fn clustered(count: usize, dim: usize, distance: Distance, seed: u64) -> Data {
    const CENTRES: usize = 20;
    const LATENT: usize = 8;
    let mut random = Random::new(seed);
    let mut normals = |count: usize| (0..count).map(|_| random.normal()).collect::<Vec<f32>>();
    let (centres, basis) = (normals(CENTRES * dim), normals(LATENT * dim));
    let mut random = Random::new(seed ^ 0xda7a);
    let mut rows = Vec::with_capacity(count * dim);
    for _ in 0..count {
        let centre = random.below(CENTRES).min(random.below(CENTRES));
        let spread = 0.1 + 0.05 * centre as f32;
        let mut row = centres[centre * dim..][..dim].to_vec();
        for direction in basis.chunks(dim) {
            let along = spread * random.normal();
            row.iter_mut().zip(direction).for_each(|(x, &b)| *x += along * b);
        }
        row.iter_mut().for_each(|x| *x += 0.05 * random.normal());
        match distance {
            Distance::Cosine => {
                normalize(&mut row);
            }
            Distance::Dot => {
                let length = (0.5 * random.normal()).exp();
                row.iter_mut().for_each(|x| *x *= length);
            }
            Distance::L2 => {}
        }
        rows.append(&mut row);
    }
    Data { dim, rows, distance }
}
