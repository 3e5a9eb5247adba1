//! Ranks that are threads of one process.

use std::sync::{Arc, Barrier, Mutex};

use rkd_core::Result;
use rkd_core::ranks::{Ranks, Transport};

struct Hub {
    everybody: Barrier,
    bytes: Mutex<Vec<Vec<u8>>>,
    numbers: Mutex<Vec<Vec<f32>>>,
}

/// One of them.
struct Thread {
    rank: usize,
    size: usize,
    hub: Arc<Hub>,
}

impl Thread {
    /// Puts `mine` down, and looks at what all have put down.
    fn meet<T: Clone, R>(&self, slots: &Mutex<Vec<Vec<T>>>, mine: &[T], look: impl FnOnce(&[Vec<T>]) -> R) -> R {
        slots.lock().unwrap()[self.rank] = mine.to_vec();
        self.hub.everybody.wait();
        let all = slots.lock().unwrap().clone();
        self.hub.everybody.wait();
        look(&all)
    }
}

impl Transport for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn host(&self) -> &str {
        "here"
    }

    fn all_gather(&self, mine: &[u8], all: &mut [u8]) -> Result<()> {
        self.meet(&self.hub.bytes, mine, |slots| all.copy_from_slice(&slots.concat()));
        Ok(())
    }

    fn all_gather_numbers(&self, mine: &[f32], all: &mut [f32]) -> Result<()> {
        self.meet(&self.hub.numbers, mine, |slots| all.copy_from_slice(&slots.concat()));
        Ok(())
    }

    fn all_to_all(&self, from: &[f32], to: &mut [f32]) -> Result<()> {
        let share = from.len() / self.size;
        let own = self.rank * share..(self.rank + 1) * share;
        self.meet(&self.hub.numbers, from, |slots| {
            let parts: Vec<&[f32]> = slots.iter().map(|slot| &slot[own.clone()]).collect();
            to.copy_from_slice(&parts.concat());
        });
        Ok(())
    }

    fn broadcast(&self, bytes: &mut [u8]) -> Result<()> {
        let mine = bytes.to_vec();
        self.meet(&self.hub.bytes, &mine, |slots| bytes.copy_from_slice(&slots[0]));
        Ok(())
    }
}

/// What `work` gives on each of so many ranks. It must not panic: the others would wait.
pub fn on<T: Send>(size: usize, work: impl Fn(&Ranks) -> T + Sync) -> Vec<T> {
    let (bytes, numbers) = (Mutex::new(vec![Vec::new(); size]), Mutex::new(vec![Vec::new(); size]));
    let hub = Arc::new(Hub { everybody: Barrier::new(size), bytes, numbers });
    std::thread::scope(|scope| {
        let ranks: Vec<_> = (0..size)
            .map(|rank| {
                let (thread, work) = (Thread { rank, size, hub: Arc::clone(&hub) }, &work);
                scope.spawn(move || work(&Ranks::over(Arc::new(thread)).unwrap()))
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}
