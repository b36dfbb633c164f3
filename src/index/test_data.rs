//! Seeded data for the tests of this folder, and damage to files.
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

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

/// Rows that bounds are likely to be wrong about: zeros, equal ones, of all lengths, with outliers, all alike but for
/// a little, of the least and near the greatest numbers. Normalised for cosine.
pub(super) fn adversarial(count: usize, dim: usize, distance: Distance, seed: u64) -> Data {
    let mut random = Random::new(seed);
    let offset = [0.0, 1.0, -1e3, 1e6][random.below(4)];
    let common: Vec<f32> = (0..dim).map(|_| random.normal()).collect();
    let mut rows: Vec<f32> = Vec::with_capacity(count * dim);
    for _ in 0..count {
        let mut row: Vec<f32> = (0..dim).map(|_| random.normal()).collect();
        match random.below(12) {
            0 => row.fill(0.0),
            1 | 2 if !rows.is_empty() => {
                let row_before = random.below(rows.len() / dim);
                row.copy_from_slice(&rows[row_before * dim..][..dim]);
            }
            3 => row[random.below(dim)] *= 1e4,
            4 => row.copy_from_slice(&common),
            5 => row.iter_mut().zip(&common).for_each(|(x, common)| *x = common + 1e-4 * *x),
            6 => {
                let scale = 10f32.powi(random.below(60) as i32 - 40);
                row.iter_mut().for_each(|x| *x *= scale);
            }
            7 => row.iter_mut().for_each(|x| *x = x.signum()),
            8 => row.iter_mut().for_each(|x| *x *= 1e-42),
            _ => row.iter_mut().for_each(|x| *x += offset),
        }
        if distance == Distance::Cosine {
            normalize(&mut row);
        }
        rows.append(&mut row);
    }
    Data { dim, rows, distance }
}

/// Every byte of a good file changed in three ways, the file cut to every shorter length and made longer by a byte:
/// `refuses` must hold of a copy each time, and not of an undamaged one.
pub(super) fn assert_all_damage_is_noticed(path: &Path, refuses: impl Fn(&Path) -> bool) {
    let good = fs::read(path).unwrap();
    let damaged = path.with_extension("damaged");
    fs::write(&damaged, &good).unwrap();
    assert!(!refuses(&damaged), "it is whole");
    let mut file = File::options().write(true).open(&damaged).unwrap();
    let set = |file: &mut File, at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    for at in 0..good.len() {
        for flip in [1u8, 0x80, 0xff] {
            set(&mut file, at, good[at] ^ flip);
            assert!(refuses(&damaged), "byte {at} of {}, changed by {flip:#x}", good.len());
        }
        set(&mut file, at, good[at]);
    }
    set(&mut file, good.len(), 0);
    assert!(refuses(&damaged), "a byte more");
    for len in (0..=good.len()).rev() {
        file.set_len(len as u64).unwrap();
        assert_eq!(refuses(&damaged), len < good.len(), "{len} bytes of {}", good.len());
    }
}
