//! The namespaces around all rows: this program runs itself once more as the first process of new
//! mount, network and process namespaces. What it makes in there is nowhere else, and the kernel
//! removes all of it, processes included, when it ends, however it ends.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::debian;
use crate::process::{program, works};

/// What makes namespaces, links, packet filters, and forgets mappings of a NAT.
const PACKAGES: [&str; 4] = ["util-linux", "iproute2", "iptables", "conntrack"];

/// `--kill-child`: with `unshare` its namespaces' first process ends too.
const NAMESPACES: [&str; 5] = ["--mount", "--net", "--pid", "--fork", "--kill-child"];
/// Who may not make namespaces may become root of a user namespace first, where the system lets
/// them.
const AS_USER: [&str; 2] = ["--user", "--map-root-user"];

/// Names of network namespaces lie in `/run/netns`: in here that is a folder of our own.
const ENTER: &str = "mount -t tmpfs lab /run";
/// Tries once what every row needs.
const PROBE: &str = "ip netns add A && ip netns add B \
    && nsenter --net=/run/netns/A ip link add eth0 type veth peer name eth0 netns /run/netns/B \
    && nsenter --net=/run/netns/A iptables -A FORWARD -p tcp -m statistic --mode random \
       --probability 0.05 -j DROP \
    && nsenter --net=/run/netns/A iptables -t nat -A POSTROUTING -p udp -j MASQUERADE \
       --to-ports 50000-50999 \
    && nsenter --net=/run/netns/A conntrack -F";

/// How often the program inside is polled.
const POLL: Duration = Duration::from_millis(50);

/// How namespaces can be made here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    as_user: bool,
}

/// Installs the tools that are missing, if that is possible.
pub(crate) fn tools() -> Result<(), String> {
    debian::ready_or_installed(&PACKAGES, "no tools for network namespaces", || {
        let tools = [
            ("unshare", "--version"),
            ("ip", "-V"),
            ("iptables", "--version"),
            ("conntrack", "--version"),
        ];
        let all = |(name, option)| works(program(name).arg(option));
        tools.into_iter().all(all).then_some(())
    })
}

impl Space {
    /// Finds out how, or why not.
    pub(crate) fn find() -> Result<Self, String> {
        tools()?;
        let ways = [false, true].map(|as_user| Self { as_user });
        let mut why = String::new();
        for way in ways {
            let output = way
                .command("sh")
                .args(["-ec", &format!("{ENTER} && {PROBE}")])
                .output()
                .map_err(|error| format!("cannot start unshare: {error}"))?;
            if output.status.success() {
                return Ok(way);
            }
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            why = errors.lines().next().unwrap_or_default().to_owned();
        }
        Err(format!("no network namespaces can be made here: {why}"))
    }

    /// A program as the first process of new namespaces.
    fn command(self, name: impl AsRef<OsStr>) -> Command {
        let mut command = program("unshare");
        if self.as_user {
            command.args(AS_USER);
        }
        command.args(NAMESPACES).arg("--").arg(name.as_ref());
        command
    }

    /// Runs this program inside, with these arguments, for at most `limit`.
    pub(crate) fn run(self, arguments: &[String], limit: Duration) -> Result<ExitStatus, String> {
        let this = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = self.command("sh");
        command
            .args(["-ec", &format!("{ENTER} && exec \"$@\""), "sh"])
            .arg(this)
            .args(arguments)
            .stdin(Stdio::piped());
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start unshare: {error}"))?;
        wait(child, limit)
    }
}

/// Waits for the end; after `limit` the closed pipe ends the program inside.
fn wait(mut child: Child, limit: Duration) -> Result<ExitStatus, String> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status);
        }
        thread::sleep(POLL);
    }
    drop(child.stdin.take());
    child.wait().map_err(|error| error.to_string())?;
    Err(format!("not done after {} s", limit.as_secs()))
}

/// Inside: ends this program, and with it every namespace, as soon as the one outside is gone,
/// after Ctrl-C or a SIGKILL too. The first process of a namespace gets no signal that it does not
/// handle, but the pipe on its stdin closes.
pub(crate) fn end_with_parent() {
    thread::spawn(|| {
        // An error means the same as the end: nothing is at the other side any more.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(130);
    });
}
