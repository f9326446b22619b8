//! Python's random number generator: the Mersenne Twister MT19937, with CPython 3.11's seeding, shuffle and sample.
//!
//! Source: `Modules/_randommodule.c` and `Lib/random.py`, after Matsumoto and Nishimura, "Mersenne Twister", 1998.

use std::collections::HashMap;

const SIZE: usize = 624;
const MIDDLE: usize = 397;

/// Python's `random.Random(seed)`.
#[derive(Debug, Clone)]
pub struct Twister {
    state: [u32; SIZE],
    next: usize,
}

impl Twister {
    /// Makes the generator of an integer seed.
    pub fn new(seed: u64) -> Self {
        let mut key = vec![seed as u32];
        if seed >> 32 != 0 {
            key.push((seed >> 32) as u32);
        }
        let mut twister = Self {
            state: [0; SIZE],
            next: SIZE,
        };
        twister.start(19_650_218);
        twister.mix(&key);
        twister
    }

    fn start(&mut self, seed: u32) {
        self.state[0] = seed;
        for i in 1..SIZE {
            let before = self.state[i - 1];
            self.state[i] = 1_812_433_253u32
                .wrapping_mul(before ^ (before >> 30))
                .wrapping_add(i as u32);
        }
    }

    fn mix(&mut self, key: &[u32]) {
        let (mut i, mut j) = (1, 0);
        for _ in 0..SIZE.max(key.len()) {
            let before = self.state[i - 1];
            self.state[i] = (self.state[i] ^ (before ^ (before >> 30)).wrapping_mul(1_664_525))
                .wrapping_add(key[j])
                .wrapping_add(j as u32);
            i += 1;
            j = (j + 1) % key.len();
            if i >= SIZE {
                self.state[0] = self.state[SIZE - 1];
                i = 1;
            }
        }
        for _ in 1..SIZE {
            let before = self.state[i - 1];
            self.state[i] = (self.state[i] ^ (before ^ (before >> 30)).wrapping_mul(1_566_083_941))
                .wrapping_sub(i as u32);
            i += 1;
            if i >= SIZE {
                self.state[0] = self.state[SIZE - 1];
                i = 1;
            }
        }
        self.state[0] = 0x8000_0000;
    }

    fn twist(&mut self) {
        for i in 0..SIZE {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % SIZE] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + MIDDLE) % SIZE] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// Returns the next 32 bits.
    pub fn word(&mut self) -> u32 {
        if self.next >= SIZE {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Python's `_randbelow(count)`: draws bits until their value is below `count`, which must be below 2³².
    pub fn below(&mut self, count: usize) -> usize {
        let bits = usize::BITS - count.leading_zeros();
        if bits == 0 {
            return 0;
        }
        loop {
            let drawn = (self.word() >> (32 - bits)) as usize;
            if drawn < count {
                return drawn;
            }
        }
    }

    /// Python's `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }

    /// Python's `sample(range(population), count)`; `None` where Python raises because `count` is greater.
    pub fn sample(&mut self, population: usize, count: usize) -> Option<Vec<usize>> {
        if count > population {
            return None;
        }
        // The population from which Python tracks the drawn items instead of keeping a pool: 21 + 4^ceil(log4(3
        // count)).
        let mut pool_size = 21u64;
        if count > 5 {
            pool_size += 4u64.pow(((count as f64 * 3.0).ln() / 4f64.ln()).ceil() as u32);
        }
        let mut drawn = Vec::with_capacity(count);
        if population as u64 <= pool_size {
            let mut pool: Vec<usize> = (0..population).collect();
            for i in 0..count {
                let j = self.below(population - i);
                drawn.push(pool[j]);
                pool[j] = pool[population - i - 1];
            }
        } else {
            let mut seen = HashMap::new();
            for _ in 0..count {
                let mut j = self.below(population);
                while seen.contains_key(&j) {
                    j = self.below(population);
                }
                seen.insert(j, ());
                drawn.push(j);
            }
        }
        Some(drawn)
    }
}
