//! Ranks as processes. The test program starts itself again, and each process plays a part in a scene that is
//! given by name.

use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use demask_model::world::environment::{STORE_FILE, STORE_SOCKET};

/// Environment variable that names the scene of a process.
pub const SCENE: &str = "DEMASK_TEST_SCENE";
/// Environment variable that names the folder where a process finds its inputs and leaves its results.
pub const PLACE: &str = "DEMASK_TEST_PLACE";

/// How long a rank is waited for. It is longer than the ranks wait for one another.
const LONGEST_END: Duration = Duration::from_secs(400);
/// Time between two looks whether a rank has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Waits for the end of a rank. One that does not end in time is killed, and fails the test.
pub fn end_of(rank: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = rank.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > LONGEST_END {
            rank.kill().ok();
            rank.wait().ok();
            let (pid, seconds) = (rank.id(), LONGEST_END.as_secs());
            panic!("process {pid} did not end within {seconds} s and was killed");
        }
        std::thread::sleep(LOOK);
    }
}

/// How the ranks of a scene find one another.
pub enum Meeting {
    File,
    /// A socket that the starting process listens on and that rank 0 inherits.
    Socket(TcpListener),
}

/// The processes of a scene.
pub struct Scene {
    pub ranks: Vec<Child>,
}

/// Starts `count` processes of a world of `size` ranks.
pub fn start(name: &str, (count, size): (usize, usize), place: &Path, meeting: Meeting) -> Scene {
    start_generation(name, (count, size), place, meeting, 0)
}

pub fn start_generation(
    name: &str,
    (count, size): (usize, usize),
    place: &Path,
    meeting: Meeting,
    generation: u64,
) -> Scene {
    let ranks = (0..count).map(|rank| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "as_a_rank",
                "--exact",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .envs([(SCENE, name), ("OMP_NUM_THREADS", "1")])
            .env(PLACE, place)
            .env("RANK", rank.to_string())
            .env("WORLD_SIZE", size.to_string())
            .env("TORCHELASTIC_RESTART_COUNT", generation.to_string())
            .stdin(Stdio::null());
        match &meeting {
            Meeting::File => {
                command.env(STORE_FILE, place.join("store"));
            }
            Meeting::Socket(listener) => {
                let address = listener.local_addr().unwrap();
                command.env("MASTER_ADDR", address.ip().to_string());
                command.env("MASTER_PORT", address.port().to_string());
                if rank == 0 {
                    inherit(&mut command, listener.as_raw_fd());
                }
            }
        }
        command.spawn().unwrap()
    });
    Scene {
        ranks: ranks.collect(),
    }
}

/// Makes `command` serve the store on a socket that it inherits.
pub fn inherit(command: &mut Command, socket: i32) {
    command.env(STORE_SOCKET, socket.to_string());
    // SAFETY: `fcntl` is async-signal-safe, so it may be called between fork and exec.
    unsafe {
        command.pre_exec(move || match libc::fcntl(socket, libc::F_SETFD, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

impl Scene {
    /// Waits for every rank and returns how each one ended.
    pub fn end(&mut self) -> Vec<ExitStatus> {
        self.ranks.iter_mut().map(end_of).collect()
    }

    /// Waits until every rank has ended, and asserts that each one succeeded.
    pub fn succeed(mut self) {
        for (rank, status) in self.end().into_iter().enumerate() {
            assert!(status.success(), "rank {rank} ended with {status}");
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for rank in &mut self.ranks {
            rank.kill().ok();
            rank.wait().ok();
        }
    }
}
