//! Muon over ranks: a matrix whose momentum several ranks own parts of is orthogonalised as a whole by one of them.
//!
//! The batches of matrices ([`muon::batches`]) are the same for any number of ranks, and so are their bits. They are
//! taken in rounds, a batch for each rank. Neighbouring batches cost about the same, so the ranks of a round end about
//! together. In an exchange before, every rank sends its parts of the momentum to the rank that has the batch; in
//! another one after, it gets the same parts of the direction back. Both cross in f32.

use tch::{Kind, Tensor};

use crate::device::heartbeat;
use crate::error::Result;
use crate::training::optimizer::muon::{self, Matrix};
use crate::training::ranks::Share;
use crate::training::threads::Threads;

/// A part of a matrix that a rank owns: the number of the matrix in its batch, the offset in it, and the length.
type OwnedPart = (usize, i64, i64);

impl Share {
    /// Returns the directions of this rank's parts of matrices. Of a round of batches, batch r is computed by rank r.
    /// `own` has the momentum of this rank's parts of each batch, in the order of the matrices. All ranks must call
    /// this together, with the same round.
    ///
    /// # Errors
    /// [`ModelError::World`](crate::ModelError::World) if a peer is gone, or any error libtorch reports.
    pub fn directions(&self, round: &[Vec<Matrix>], own: Vec<Vec<Tensor>>) -> Result<Vec<Vec<Tensor>>> {
        heartbeat::beat();
        let lengths: Vec<Vec<i64>> = own
            .iter()
            .map(|parts| parts.iter().map(|part| part.numel() as i64).collect())
            .collect();
        let mut there: Vec<i64> = lengths.iter().map(|parts| parts.iter().sum()).collect();
        there.resize(self.ranks(), 0);
        let momentum = self.joined(own.into_iter().flatten().collect())?;
        let batch: &[Matrix] = round.get(self.world.rank()).map_or(&[], Vec::as_slice);
        let parts: Vec<Vec<OwnedPart>> = (0..self.ranks()).map(|rank| self.parts_of(batch, rank)).collect();
        let back: Vec<i64> = parts
            .iter()
            .map(|parts| parts.iter().map(|(.., length)| length).sum())
            .collect();
        let arrived = self.crossed((&momentum, &there), &back)?;
        drop(momentum);
        let made = self.orthogonal(batch, &parts.concat(), arrived)?;
        let mut rest = self.crossed((&made, &back), &there)?;
        let mut take = |length: &i64| -> Result<Tensor> {
            let taken = rest.f_narrow(0, 0, *length)?;
            rest = rest.f_narrow(0, *length, rest.numel() as i64 - length)?;
            Ok(taken)
        };
        let of_batch = |parts: &Vec<i64>| parts.iter().map(&mut take).collect::<Result<Vec<_>>>();
        lengths.iter().map(of_batch).collect()
    }

    /// Returns the parts of a batch that a rank owns.
    fn parts_of(&self, batch: &[Matrix], rank: usize) -> Vec<OwnedPart> {
        let of = |(number, matrix): (usize, &Matrix)| {
            let parts = self.map().within(matrix.range()).into_iter();
            let parts = parts.filter(|part| part.rank == rank);
            let start = matrix.flat;
            parts
                .map(move |part| (number, part.start - start, part.length))
                .collect::<Vec<_>>()
        };
        batch.iter().enumerate().flat_map(of).collect()
    }

    /// Returns the directions of the batch that this rank computes, from the momentum; both are part after part.
    fn orthogonal(&self, batch: &[Matrix], parts: &[OwnedPart], arrived: Tensor) -> Result<Tensor> {
        if batch.is_empty() {
            return Ok(arrived);
        }
        let like = (Kind::Float, arrived.device());
        let whole = |matrix: &Matrix| Tensor::f_empty([matrix.numbers()], like);
        let momenta: Vec<Tensor> = batch.iter().map(whole).collect::<std::result::Result<_, _>>()?;
        let mut at = 0;
        for &(number, within, length) in parts {
            let part = arrived.f_narrow(0, at, length)?;
            momenta[number].f_narrow(0, within, length)?.f_copy_(&part)?;
            at += length;
        }
        drop(arrived);
        // The matrix products of a CPU may round by the number of threads, which is each rank's own.
        let _restored = (!like.1.is_cuda()).then(Threads::one);
        let directions = muon::directions(batch, momenta)?;
        let part = |&(number, within, length): &OwnedPart| directions[number].f_narrow(0, within, length);
        self.joined(parts.iter().map(part).collect::<std::result::Result<_, _>>()?)
    }

    /// Joins flat tensors.
    fn joined(&self, parts: Vec<Tensor>) -> Result<Tensor> {
        match parts.is_empty() {
            true => Ok(Tensor::f_empty([0], (Kind::Float, self.device))?),
            false => Ok(Tensor::f_cat(&parts, 0)?),
        }
    }

    /// Sends to each rank its count of numbers, and returns the numbers that arrive, given each rank's count of them.
    fn crossed(&self, (from, sent): (&Tensor, &[i64]), received: &[i64]) -> Result<Tensor> {
        if self.ranks() == 1 {
            return Ok(from.shallow_clone());
        }
        let to = Tensor::f_empty([received.iter().sum::<i64>()], (from.kind(), from.device()))?;
        self.group().exchange((&to, received), (from, sent))?;
        Ok(to)
    }
}
