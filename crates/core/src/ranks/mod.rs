//! The processes that train together, *ranks* as MPI calls them: 0 is the first, which leads.
//!
//! [`Ranks`] is what a session sees, also where it is alone. All ranks make the same calls in the same order. Each begins
//! with a few numbers of everybody: which call it is, and whether somebody has failed. So an error of one rank becomes the same
//! error of all at the next call, whatever that is, and nobody waits for ever; see [`Ranks::together`].
//!
//! Sums do not hang on how many ranks there are. A batch is cut into micro batches; their gradients are the leaves of a binary
//! tree, whose shape follows from their number alone:
//!
//! ```text
//! ((g0 + g1) + (g2 + g3)) + ((g4 + g5) + (g6 + g7))
//! ```
//! A rank has 2^k neighbouring leaves ([`share`]), a whole branch of the tree: it sums that itself ([`Tree`]), and [`Ranks::sum`]
//! the rest, each rank a part of the numbers.

mod one_host;
mod transport;
mod tree;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use transport::{Launch, Transport, cores, join, joined, launch};
pub use tree::{Tree, can_share, share};

use crate::error::{Code, Error, Result};
use one_host::{Neighbours, Place};

/// The processes of a run. Clones are the same ones.
#[derive(Clone)]
pub struct Ranks {
    several: Option<Arc<Several>>,
}

struct Several {
    transport: Arc<dyn Transport>,
    neighbours: Neighbours,
    /// Calls so far, by which ranks find that they are at different places.
    calls: AtomicU64,
    /// Whether the last failure was everybody's.
    shared: AtomicBool,
    waited: AtomicU64,
}

/// What a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Gather = 1,
    Sum,
    Broadcast,
    /// Of a rank that has failed: it comes in the place of any other.
    Failure,
}

/// Bytes of what stands before each call: which it is, its number, and the length of what follows.
const HEAD: usize = 24;

/// Bytes of one message; more go in several.
const LARGEST: usize = 1 << 24;

/// An error on its way to other ranks.
#[derive(Serialize, Deserialize)]
struct Failure {
    host: String,
    code: String,
    message: String,
    subject: Option<String>,
    expected: Option<String>,
    received: Option<String>,
    advice: Option<String>,
}

impl Ranks {
    /// A run in one process.
    pub fn one() -> Ranks {
        Ranks { several: None }
    }

    /// The ranks that `transport` connects; a call of all of them.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn over(transport: Arc<dyn Transport>) -> Result<Ranks> {
        if transport.size() == 1 {
            return Ok(Ranks::one());
        }
        let (calls, shared, waited) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
        let mut several = Several { transport, neighbours: Neighbours::default(), calls, shared, waited };
        let place = Place::here(several.transport.host());
        let all = several.gather(&to_bytes(&place)?)?;
        let all = all.iter().map(|bytes| from_bytes(bytes)).collect::<Result<Vec<Place>>>()?;
        several.neighbours = Neighbours::of(several.transport.rank(), &all);
        Ok(Ranks { several: Some(Arc::new(several)) })
    }

    /// This one, from 0.
    pub fn rank(&self) -> usize {
        self.several.as_ref().map_or(0, |several| several.transport.rank())
    }

    /// How many they are.
    pub fn size(&self) -> usize {
        self.several.as_ref().map_or(1, |several| several.transport.size())
    }

    /// Whether this one leads: it alone tells and writes.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Whether it is the first one on its machine.
    pub fn is_first_on_host(&self) -> bool {
        self.several.as_ref().is_none_or(|several| several.neighbours.is_first_on_host)
    }

    /// The cores of this rank: those that it may use, shared with the ranks that may use the same ones.
    pub fn cores(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
        let sharing = self.several.as_ref().map_or(1, |several| several.neighbours.on_these_cores);
        (cores / sharing).max(1)
    }

    /// How long this rank has waited for the others, and for what they sent.
    pub fn waited(&self) -> Duration {
        self.several
            .as_ref()
            .map_or(Duration::ZERO, |several| Duration::from_nanos(several.waited.load(Ordering::Relaxed)))
    }

    /// Everybody's bytes, in the order of the ranks.
    ///
    /// # Errors
    /// That of whoever failed, see [`Ranks::together`].
    pub fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        match &self.several {
            None => Ok(vec![mine.to_vec()]),
            Some(several) => several.gather(mine),
        }
    }

    /// Everybody's `value`, as JSON takes it, in the order of the ranks.
    ///
    /// # Errors
    /// As [`Ranks::gather`].
    pub fn gather_values<T: Serialize + for<'v> Deserialize<'v>>(&self, value: &T) -> Result<Vec<T>> {
        self.gather(&to_bytes(value)?)?.iter().map(|bytes| from_bytes(bytes)).collect()
    }

    /// Everybody's numbers, in the order of the ranks.
    ///
    /// # Errors
    /// As [`Ranks::gather`].
    pub fn gather_numbers(&self, mine: Vec<f32>) -> Result<Vec<f32>> {
        if self.several.is_none() {
            return Ok(mine);
        }
        let bytes: Vec<u8> = mine.iter().flat_map(|value| value.to_le_bytes()).collect();
        let numbers = |bytes: &Vec<u8>| bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        Ok(self.gather(&bytes)?.iter().map(numbers).collect::<Vec<Vec<f32>>>().concat())
    }

    /// The bytes of rank 0; what the others give does not matter.
    ///
    /// # Errors
    /// As [`Ranks::gather`].
    pub fn broadcast(&self, mine: Vec<u8>) -> Result<Vec<u8>> {
        match &self.several {
            None => Ok(mine),
            Some(several) => several.broadcast(mine),
        }
    }

    /// Replaces `values` by their sum over the ranks, in the order of the tree.
    ///
    /// # Errors
    /// As [`Ranks::gather`].
    pub fn sum(&self, values: &mut [f32]) -> Result<()> {
        match &self.several {
            None => Ok(()),
            Some(several) => several.sum(values),
        }
    }

    /// The sum of the first `count` ranks' lists of `length` numbers, in the order of the tree; the other ranks have none.
    ///
    /// # Errors
    /// As [`Ranks::gather`].
    pub fn sum_of_first(&self, count: usize, length: usize, mine: Vec<f64>) -> Result<Vec<f64>> {
        match &self.several {
            None => Ok(mine),
            Some(several) => several.sum_of_first(count, length, &mine),
        }
    }

    /// Does `work` that all ranks do, with calls in it or without. Where it fails on this rank alone, the others get the error
    /// at their next call, with this rank's name; where it failed in a call, all have it already.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn together<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let found = work();
        if let (Err(error), Some(several)) = (&found, &self.several)
            && !several.shared.swap(false, Ordering::Relaxed)
        {
            let _ = several.fail(error);
            several.shared.store(false, Ordering::Relaxed);
        }
        found
    }

    /// Does `work` on the first rank of each machine, and then on the others: what it leaves on the machine's disk, they
    /// find there.
    ///
    /// # Errors
    /// Those of `work`, and as [`Ranks::gather`].
    pub fn in_turn<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(several) = &self.several else { return work() };
        if several.neighbours.is_first_on_host {
            let found = work()?;
            several.gather(&[])?;
            return Ok(found);
        }
        several.gather(&[])?;
        work()
    }

    /// Checks that all ranks have the same: each `what` with the value that this rank has, and what to do where one differs.
    ///
    /// # Errors
    /// `ERR_RANKS_DIFFER` that names the first rank and the first thing that differ from rank 0.
    pub fn check_same(&self, things: &[(&str, String, &str)]) -> Result<()> {
        let Some(several) = &self.several else { return Ok(()) };
        let own: Vec<&String> = things.iter().map(|(_, value, _)| value).collect();
        let all = several.gather(&to_bytes(&(several.transport.host(), own))?)?;
        let all = all.iter().map(|bytes| from_bytes(bytes)).collect::<Result<Vec<(String, Vec<String>)>>>()?;
        let (host, first) = &all[0];
        for (rank, (other, values)) in all.iter().enumerate() {
            let Some(place) = (0..things.len()).find(|&place| values.get(place) != first.get(place)) else { continue };
            let (what, _, advice) = things[place];
            let value = |values: &[String]| values.get(place).cloned().unwrap_or_default();
            several.shared.store(true, Ordering::Relaxed); // everybody finds the same
            return Err(Error::new(
                Code::RanksDiffer,
                format!("rank {rank} on {other} differs from rank 0 in its {what}"),
            )
            .with_values(format!("{} (rank 0 on {host})", value(first)), value(values))
            .with_advice(advice));
        }
        Ok(())
    }
}

impl Several {
    /// What comes before each call; `text` is what has failed. Gives everybody's length.
    fn begin(&self, call: Call, length: usize, text: &[u8]) -> Result<Vec<usize>> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let begin = Instant::now();
        let head = [call as u64, number, length as u64].map(u64::to_le_bytes).concat();
        let mut heads = vec![0; HEAD * self.transport.size()];
        self.transport.all_gather(&head, &mut heads)?;
        self.count(begin);
        let words = |head: &[u8]| head.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<_>>();
        let heads: Vec<Vec<u64>> = heads.chunks_exact(HEAD).map(words).collect();
        let lengths: Vec<usize> = heads.iter().map(|head| head[2] as usize).collect();
        if let Some(failed) = heads.iter().position(|head| head[0] == Call::Failure as u64) {
            let text = self.text(text, failed, lengths[failed])?;
            self.shared.store(true, Ordering::Relaxed);
            let Failure { host, code, message, subject, expected, received, advice } = from_bytes(&text)?;
            let code = Code::ALL.iter().copied().find(|known| known.as_str() == code).unwrap_or(Code::Internal);
            let error = Error::new(code, format!("rank {failed} on {host}: {message}"));
            return Err(Error { subject, expected, received, advice, ..error });
        }
        if heads.iter().any(|head| head[..2] != [call as u64, number]) {
            return Err(Error::new(Code::Internal, "the ranks are at different places of the run")
                .with_values(format!("call {number}, {call:?}, of all"), format!("{heads:?}"))
                .with_advice("please report it with the plan.json of the run"));
        }
        Ok(lengths)
    }

    /// Tells the others of an error of this rank.
    fn fail(&self, error: &Error) -> Result<()> {
        let Error { message, subject, expected, received, advice, .. } = error;
        let (subject, expected, received) = (subject.clone(), expected.clone(), received.clone());
        let (code, message, advice) = (error.code.as_str().into(), message.clone(), advice.clone());
        let host = self.transport.host().into();
        let text = to_bytes(&Failure { host, code, message, subject, expected, received, advice })?;
        self.begin(Call::Failure, text.len(), &text).map(drop)
    }

    /// The text of the rank `of`, `length` bytes; `mine` is that of this rank.
    fn text(&self, mine: &[u8], of: usize, length: usize) -> Result<Vec<u8>> {
        let mut own = mine.to_vec();
        own.resize(length, b' ');
        let mut all = vec![0; length * self.transport.size()];
        self.transport.all_gather(&own, &mut all)?;
        Ok(all[of * length..(of + 1) * length].to_vec())
    }

    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        let lengths = self.begin(Call::Gather, mine.len(), &[])?;
        let begin = Instant::now();
        let longest = lengths.iter().copied().max().unwrap_or_default();
        let mut all: Vec<Vec<u8>> = lengths.iter().map(|&length| Vec::with_capacity(length)).collect();
        let (mut own, mut received) = (Vec::new(), Vec::new());
        for start in (0..longest).step_by(LARGEST) {
            let size = LARGEST.min(longest - start);
            own.clear();
            own.extend_from_slice(&mine[start.min(mine.len())..(start + size).min(mine.len())]);
            own.resize(size, 0);
            received.resize(size * lengths.len(), 0);
            self.transport.all_gather(&own, &mut received)?;
            for ((all, part), &length) in all.iter_mut().zip(received.chunks_exact(size)).zip(&lengths) {
                all.extend_from_slice(&part[..size.min(length.saturating_sub(start))]);
            }
        }
        self.count(begin);
        Ok(all)
    }

    fn broadcast(&self, mine: Vec<u8>) -> Result<Vec<u8>> {
        let lengths = self.begin(Call::Broadcast, mine.len(), &[])?;
        let mut bytes = mine;
        bytes.resize(lengths[0], 0);
        for part in bytes.chunks_mut(LARGEST) {
            self.transport.broadcast(part)?;
        }
        Ok(bytes)
    }

    /// Each rank sums its share of the numbers, of all ranks; then everybody gets all shares.
    fn sum(&self, values: &mut [f32]) -> Result<()> {
        let lengths = self.begin(Call::Sum, values.len(), &[])?;
        if lengths.iter().any(|&length| length != values.len()) {
            return Err(Error::new(Code::Internal, "the ranks sum lists of different lengths")
                .with_values(values.len().to_string(), format!("{lengths:?}")));
        }
        let begin = Instant::now();
        let size = self.transport.size();
        let (mut shares, mut parts) = (Vec::new(), Vec::new());
        for block in values.chunks_mut(LARGEST / size_of::<f32>()) {
            let share = block.len().div_ceil(size);
            for buffer in [&mut shares, &mut parts] {
                buffer.resize(share * size, 0.0);
            }
            shares[..block.len()].copy_from_slice(block);
            self.transport.all_to_all(&shares, &mut parts)?;
            tree::sum_rows(&mut parts, share);
            self.transport.all_gather_numbers(&parts[..share], &mut shares)?;
            block.copy_from_slice(&shares[..block.len()]);
        }
        self.count(begin);
        Ok(())
    }

    /// Part after part, so that no more of everybody's is in memory.
    fn sum_of_first(&self, count: usize, length: usize, mine: &[f64]) -> Result<Vec<f64>> {
        let mut sum = Vec::with_capacity(length);
        let numbers = |bytes: &Vec<u8>| bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        for start in (0..length).step_by(LARGEST / size_of::<f64>()) {
            let part = mine.iter().skip(start).take(LARGEST / size_of::<f64>());
            let all = self.gather(&part.flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
            let mut tree = Tree::default();
            all[..count].iter().try_for_each(|bytes| tree.push(numbers(bytes), added))?;
            sum.extend(tree.sum(added)?.unwrap_or_default());
        }
        Ok(sum)
    }

    fn count(&self, begin: Instant) {
        self.waited.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

/// The sum of two lists of one length, a branch of a [`Tree`].
///
/// # Errors
/// None; trees have them.
pub fn added(mut left: Vec<f64>, right: Vec<f64>) -> Result<Vec<f64>> {
    left.iter_mut().zip(&right).for_each(|(left, right)| *left += right);
    Ok(left)
}

fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(Code::Internal, format!("a message has no JSON form: {e}")))
}

fn from_bytes<T: for<'v> Deserialize<'v>>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::new(Code::Internal, format!("a message of another rank: {e}")))
}
