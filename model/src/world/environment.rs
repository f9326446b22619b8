//! Reads this process's place in a world from the variables that the daemon, torchrun or Slurm set.

use std::path::PathBuf;

use crate::error::{ModelError, Result};

/// The largest number of ranks of a world (law L9).
pub const MOST_RANKS: usize = 4096;

/// The variable that names a store file, through which the ranks of one machine find one another. It takes
/// the place of a master address.
pub const STORE_FILE: &str = "DEMASK_WORLD_STORE";
/// The variable with the descriptor of a listening socket that rank 0 inherits and serves the store on.
pub const STORE_SOCKET: &str = "DEMASK_WORLD_SOCKET";

/// The variable of torchrun and the daemon with the number of ranks on this machine.
const LOCAL_SIZE: &str = "LOCAL_WORLD_SIZE";

/// A process's place in a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The rank, counted from 0.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
    /// The rank within its machine, counted from 0.
    pub local_rank: usize,
    /// The number of ranks on its machine, if it is known. Slurm does not tell it in every case.
    pub local_size: Option<usize>,
    /// The number of earlier worlds of the same job. A store may outlive a world, and its keys are then those
    /// of the ended world.
    pub generation: u64,
    /// The place where the ranks find one another.
    pub rendezvous: Rendezvous,
}

/// The place where the ranks of a world find one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rendezvous {
    /// A file that all ranks can reach, on one machine.
    File(PathBuf),
    /// A store over TCP.
    Tcp {
        /// The name or address of the master.
        host: String,
        /// The port of the master.
        port: u16,
        /// Whether this process serves the store.
        role: StoreRole,
    },
}

/// The role of a process towards a store over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreRole {
    /// Another process serves the store.
    Client,
    /// This process serves the store, and listens on the master's address only.
    Server,
    /// This process serves the store on a listening socket that it inherited.
    Inherited(i32),
}

impl Membership {
    /// Reads the place from the variables of torchrun and the daemon (RANK, WORLD_SIZE, LOCAL_RANK,
    /// LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT) or of Slurm (SLURM_PROCID, SLURM_NTASKS, …). `get` returns a
    /// variable's value.
    ///
    /// # Errors
    /// Returns [`ModelError::Refused`], which names the variable that is missing or invalid.
    pub fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let slurm = get("RANK").is_none() && get("SLURM_PROCID").is_some();
        let names = if slurm {
            [
                "SLURM_PROCID",
                "SLURM_NTASKS",
                "SLURM_LOCALID",
                "SLURM_RESTART_COUNT",
            ]
        } else {
            ["RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT"]
        };
        let [rank, size, local_rank, generation] = names;
        let (rank, size) = (number(get, rank)?, number(get, size)?);
        if size == 0 || size > MOST_RANKS || rank >= size {
            let message = format!(
                "found rank {rank} of {size} ranks; expected 1 to {MOST_RANKS} ranks, counted from 0"
            );
            return Err(ModelError::Refused(message));
        }
        let or_none = |name: &str| get(name).map_or(Ok(0), |_| number(get, name));
        Ok(Self {
            rank,
            size,
            local_rank: or_none(local_rank)?,
            local_size: match get(LOCAL_SIZE).filter(|_| !slurm) {
                Some(_) => Some(number(get, LOCAL_SIZE)?),
                None => None,
            },
            generation: or_none(generation)? as u64,
            rendezvous: rendezvous(get, rank, slurm)?,
        })
    }

    /// Returns the prefix of all keys of this world in the store.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("demask/{}/", self.generation)
    }
}

fn rendezvous(get: &dyn Fn(&str) -> Option<String>, rank: usize, slurm: bool) -> Result<Rendezvous> {
    if let Some(file) = get(STORE_FILE) {
        return Ok(Rendezvous::File(file.into()));
    }
    // Under torchrun its agent serves the store at the master's port.
    let agent = get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let role = match get(STORE_SOCKET) {
        _ if rank > 0 || agent => StoreRole::Client,
        None => StoreRole::Server,
        Some(_) => StoreRole::Inherited(in_range(number(get, STORE_SOCKET)?, STORE_SOCKET)?),
    };
    // Rank 0 is on the first node of its step, which may have only some of the job's nodes.
    let nodes = || match get("SLURM_STEP_NODELIST").filter(|nodes| !nodes.is_empty()) {
        Some(nodes) => Ok(nodes),
        None => needed(get, "SLURM_JOB_NODELIST"),
    };
    let master = match get("MASTER_ADDR") {
        None if slurm => first_of_nodes(&nodes()?),
        _ => needed(get, "MASTER_ADDR")?,
    };
    let port = match get("MASTER_PORT") {
        None if slurm => 10_000 + number(get, "SLURM_JOB_ID")? % 50_000,
        _ => number(get, "MASTER_PORT")?,
    };
    Ok(Rendezvous::Tcp {
        host: master,
        port: in_range(port, "the master's port")?,
        role,
    })
}

fn needed(get: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<String> {
    get(name).filter(|value| !value.is_empty()).ok_or_else(|| {
        ModelError::Refused(format!(
            "{name} is not set; start the ranks with the daemon, torchrun or srun"
        ))
    })
}

fn number(get: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<usize> {
    let text = needed(get, name)?;
    let found = text.trim().parse();
    found.map_err(|_| ModelError::Refused(format!("{name} is {text:?}, expected a number")))
}

fn in_range<T: TryFrom<usize>>(number: usize, what: &str) -> Result<T> {
    T::try_from(number).map_err(|_| ModelError::Refused(format!("{what} is {number}, which is too large")))
}

/// Returns the first name of a node list in Slurm's notation, for example `gpu[03-07,11],login`.
fn first_of_nodes(list: &str) -> String {
    let end = list.find([',', '[']).unwrap_or(list.len());
    let (name, rest) = list.split_at(end);
    let Some(numbers) = rest.strip_prefix('[') else {
        return name.to_owned();
    };
    let (inside, behind) = numbers.split_once(']').unwrap_or((numbers, ""));
    let first = inside.split(['-', ',']).next().unwrap_or_default();
    // A name may have several numbers, and goes on up to the next comma.
    format!("{name}{first}{}", first_of_nodes(behind))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Membership> {
        let known: BTreeMap<&str, &str> = variables.iter().copied().collect();
        Membership::from_variables(&|name| known.get(name).map(|value| (*value).to_owned()))
    }

    const TORCHRUN: [(&str, &str); 8] = [
        ("RANK", "0"),
        ("WORLD_SIZE", "4"),
        ("LOCAL_RANK", "0"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "29501"),
        ("TORCHELASTIC_RESTART_COUNT", "2"),
        ("LOCAL_WORLD_SIZE", "2"),
        ("TORCHELASTIC_USE_AGENT_STORE", "True"),
    ];

    #[test]
    fn torchrun_keeps_the_store_and_a_restart_has_keys_of_its_own() {
        let member = read(&TORCHRUN).unwrap();
        assert_eq!((member.rank, member.size), (0, 4));
        assert_eq!((member.local_rank, member.local_size), (0, Some(2)));
        assert_eq!(member.prefix(), "demask/2/");
        let Rendezvous::Tcp { host, port, role } = member.rendezvous else {
            panic!("a store over TCP");
        };
        assert_eq!(
            (host.as_str(), port, role),
            ("127.0.0.1", 29_501, StoreRole::Client)
        );
        let own = read(&TORCHRUN[..7]).unwrap().rendezvous;
        assert!(
            matches!(
                own,
                Rendezvous::Tcp {
                    role: StoreRole::Server,
                    ..
                }
            ),
            "{own:?}"
        );
    }

    const SLURM: [(&str, &str); 6] = [
        ("SLURM_PROCID", "9"),
        ("SLURM_NTASKS", "16"),
        ("SLURM_LOCALID", "1"),
        ("SLURM_JOB_NODELIST", "gpu[03-04,11],big"),
        ("SLURM_JOB_ID", "1234567"),
        ("SLURM_STEP_NODELIST", "gpu[04,11]"),
    ];

    #[test]
    fn slurm_names_the_master_by_the_first_node_of_the_step_or_else_of_the_job() {
        let host = |variables: &[(&str, &str)]| match read(variables).unwrap().rendezvous {
            Rendezvous::Tcp { host, .. } => host,
            Rendezvous::File(path) => panic!("{}", path.display()),
        };
        assert_eq!(host(&SLURM), "gpu04");
        let mut unknown = SLURM;
        unknown[5].1 = "";
        assert_eq!(host(&unknown), "gpu03");
        let member = read(&SLURM[..5]).unwrap();
        assert_eq!((member.rank, member.size, member.local_rank), (9, 16, 1));
        assert_eq!(member.local_size, None);
        let role = StoreRole::Client;
        let (host, port) = ("gpu03".to_owned(), 44_567);
        assert_eq!(member.rendezvous, Rendezvous::Tcp { host, port, role });
        for (list, first) in [
            ("a,b", "a"),
            ("n7", "n7"),
            ("x[1,3]-ib,y", "x1-ib"),
            ("gpu[03-07,11],login", "gpu03"),
            ("r[0-1]n[2,4],x", "r0n2"),
        ] {
            assert_eq!(first_of_nodes(list), first);
        }
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_named() {
        for (index, value, words) in [
            (0, "4", "rank 4 of 4"),
            (1, "many", "WORLD_SIZE is \"many\""),
            (1, "5000", "1 to 4096"),
            (4, "70000", "port is 70000"),
            (6, "two", "LOCAL_WORLD_SIZE is \"two\""),
            (3, "", "MASTER_ADDR is not set"),
        ] {
            let mut variables = TORCHRUN;
            variables[index].1 = value;
            let message = read(&variables).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        assert!(read(&[]).unwrap_err().to_string().contains("RANK is not set"));
    }
}
