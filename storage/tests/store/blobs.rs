//! Pictures by content, written by several threads at once.

use std::sync::Barrier;

use demask_storage::Blobs;

/// The number of threads.
const THREADS: usize = 8;
/// The number of different pictures.
const PICTURES: usize = 40;

/// Rollouts, evaluations and rewards may store the same picture at the same time: each of them gets its hash, and none
/// ever reads a part of it.
#[test]
fn threads_that_store_the_same_picture_at_once_all_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::new(folder.path().join("blobs"));
    let together = Barrier::new(THREADS);
    // A thread that panicked would leave the others at the barrier, so each one counts what went right.
    let store_all = || {
        (0..PICTURES)
            .filter(|picture| {
                let bytes: Vec<u8> = picture.to_le_bytes().repeat(20_000);
                together.wait();
                blobs
                    .put(&bytes)
                    .and_then(|hash| blobs.get(&hash))
                    .is_ok_and(|read| read == bytes)
            })
            .count()
    };
    let stored: Vec<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(store_all)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(stored, [PICTURES; THREADS]);
    let folders = std::fs::read_dir(blobs.root()).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    assert_eq!(files.count(), PICTURES, "a work file is left");
}
