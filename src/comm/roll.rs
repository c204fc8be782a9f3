//! Who lives, asked beside MPI: each rank's watching thread answers datagrams, also while MPI holds its main thread. Only
//! ranks of a job that stands still ask.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    net::{SocketAddr, ToSocketAddrs, UdpSocket},
    process,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use mpi::{topology::SimpleCommunicator, traits::*};

/// Datagrams may be lost: whoever has not answered is asked again at every turn.
const TURN: Duration = Duration::from_millis(250);
const QUESTION: u8 = b'?';
const ANSWER: u8 = b'!';
/// The addressee's contact, the kind, the sender's rank.
const BYTES: usize = 8 + 1 + 4;

/// Ranks that have answered since somebody here began to ask; none while nobody asks.
#[derive(Clone, Default)]
pub struct Answers(Arc<Mutex<Option<BTreeSet<usize>>>>);

impl Answers {
    pub fn ask(&self) {
        let mut answers = self.0.lock().expect("no holder panics");
        *answers = Some(BTreeSet::new());
    }

    /// Stops asking.
    pub fn take(&self) -> BTreeSet<usize> {
        let mut answers = self.0.lock().expect("no holder panics");
        answers.take().unwrap_or_default()
    }
}

pub struct Roll {
    socket: UdpSocket,
    rank: usize,
    /// Of each rank: a number that no other process knows, whose lowest 16 bits are the port.
    contacts: Vec<u64>,
    addresses: Vec<Option<SocketAddr>>,
    answers: Answers,
}

impl Roll {
    /// All ranks open theirs together.
    pub fn open(world: &SimpleCommunicator, answers: Answers) -> Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0").context("opening a socket")?;
        socket.set_read_timeout(Some(TURN))?;
        let port = socket.local_addr()?.port();
        let own = RandomState::new().hash_one(process::id()) & !0xffff | u64::from(port);
        let mut contacts = vec![0u64; world.size() as usize];
        world.all_gather_into(&own, &mut contacts[..]);
        Ok(Self {
            socket,
            rank: world.rank() as usize,
            addresses: vec![None; contacts.len()],
            contacts,
            answers,
        })
    }

    /// Looks up the addresses, which may take long where names are served badly: call it beside the main thread. A host
    /// whose name says nothing here cannot be asked, and counts as silent.
    pub fn look_up(&mut self, hosts: &[String]) {
        for (rank, host) in hosts.iter().enumerate() {
            let host = match *host == hosts[self.rank] {
                true => "127.0.0.1",
                false => host,
            };
            let found = (host, self.contacts[rank] as u16).to_socket_addrs();
            let mut found = found.into_iter().flatten();
            self.addresses[rank] = found.find(SocketAddr::is_ipv4);
        }
    }

    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Answers, and asks while somebody wants to know, for so long.
    pub fn call(&self, time: Duration) {
        let began = Instant::now();
        let mut asked = None;
        while began.elapsed() < time {
            if asked.is_none_or(|asked: Instant| asked.elapsed() >= TURN) {
                self.ask_the_silent();
                asked = Some(Instant::now());
            }
            self.receive();
        }
    }

    fn send(&self, to: SocketAddr, rank: usize, kind: u8) {
        let mut message = [0u8; BYTES];
        message[..8].copy_from_slice(&self.contacts[rank].to_le_bytes());
        message[8] = kind;
        message[9..].copy_from_slice(&(self.rank as u32).to_le_bytes());
        // What cannot be sent is not answered, and that is what is to be found out.
        let _ = self.socket.send_to(&message, to);
    }

    fn ask_the_silent(&self) {
        let Some(answered) = self.answers.0.lock().expect("no holder panics").clone() else {
            return;
        };
        for (rank, address) in self.addresses.iter().enumerate() {
            if let Some(address) = address
                && rank != self.rank
                && !answered.contains(&rank)
            {
                self.send(*address, rank, QUESTION);
            }
        }
    }

    /// One datagram, or none within a turn; what strangers send is not read.
    fn receive(&self) {
        let mut message = [0u8; BYTES];
        let Ok((BYTES, from)) = self.socket.recv_from(&mut message) else {
            return;
        };
        let (contact, rest) = message.split_at(8);
        let sender = u32::from_le_bytes([rest[1], rest[2], rest[3], rest[4]]) as usize;
        if contact != self.contacts[self.rank].to_le_bytes() || sender >= self.contacts.len() {
            return;
        }
        match rest[0] {
            QUESTION => self.send(from, sender, ANSWER),
            _ => {
                let mut answers = self.answers.0.lock().expect("no holder panics");
                if let Some(answered) = answers.as_mut() {
                    answered.insert(sender);
                }
            }
        }
    }
}
