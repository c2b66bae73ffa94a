//! A TCP proxy in front of a server, which can hold bytes back, refuse connections or sever them: what an
//! outage, or the death of the server's process, looks like to both ends.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// How long a copying thread waits for bytes before it looks at the state again.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Clone, Copy)]
struct State {
    target: SocketAddr,
    /// Connections of an older generation are severed.
    generation: u64,
    held: bool,
    refused: bool,
}

/// Passes connections on to its target.
pub(crate) struct Proxy {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub(crate) fn new(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            target,
            generation: 0,
            held: false,
            refused: false,
        }));
        let shared = Arc::clone(&state);
        // It runs until the test process ends.
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let state = *shared.lock().unwrap();
                // A target that is gone refuses the connection, and so does the proxy then.
                let server = (!state.refused).then(|| TcpStream::connect(state.target));
                if let Some(Ok(server)) = server {
                    pass(&client, &server, &shared, state.generation);
                    pass(&server, &client, &shared, state.generation);
                }
            }
        });
        Self { addr, state }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends every connection without a close frame.
    pub(crate) fn sever(&self) {
        self.state.lock().unwrap().generation += 1;
    }

    /// Where connections go from now on.
    pub(crate) fn retarget(&self, target: SocketAddr) {
        self.state.lock().unwrap().target = target;
    }

    /// Holds every byte back, or lets them pass, as TCP does around an outage.
    pub(crate) fn hold(&self, held: bool) {
        self.state.lock().unwrap().held = held;
    }

    /// Closes new connections at once.
    pub(crate) fn refuse(&self, refused: bool) {
        self.state.lock().unwrap().refused = refused;
    }
}

/// Copies one direction in a thread of its own.
fn pass(from: &TcpStream, to: &TcpStream, state: &Arc<Mutex<State>>, generation: u64) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let state = Arc::clone(state);
    from.set_read_timeout(Some(LOOK)).unwrap();
    to.set_nodelay(true).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let now = *state.lock().unwrap();
            if now.generation != generation {
                break;
            }
            if now.held {
                thread::sleep(LOOK);
                continue;
            }
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    if to.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        // Either end may have closed it already.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
