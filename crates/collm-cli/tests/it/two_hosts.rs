//! docs/deploy.md, walked by its own commands: an edge on one host and a cloud on another, with encryption and keys.
//!
//! The hosts are two network namespaces with a cable between them, and what the page puts below `/` is put below a folder. Only
//! accounts and systemd are left out; what its units start is started here. Needs root and `ip`; says so where it has not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command, Output},
};

use tempfile::TempDir;

use crate::harness::{Server, collm, model, stderr, stdout};

/// What the page's commands call on that is not here.
const STAND_INS: &str = r#"
sudo() { "$@"; }
useradd() { :; }
systemctl() { :; }
# Without an account, files belong to whoever walks.
install() {
    local word words=()
    while (($#)); do
        word=$1; shift
        if [[ $word == -o ]]; then shift; else words+=("$word"); fi
    done
    command install "${words[@]}"
}
# To the home of whoever logs in there.
scp() {
    local to=${!#}
    cp "${@:1:$#-1}" "$HOMES/${to%:}/"
}
"#;

/// Two hosts with a cable, gone with this value.
struct Hosts {
    names: [String; 2],
    folder: TempDir,
}

/// A host's name on the page, and its address here.
const HOSTS: [(&str, &str); 2] = [("cloud.example", "10.77.0.1"), ("edge.example", "10.77.0.2")];

impl Hosts {
    /// `None`, with the reason on stderr, where they cannot be made.
    fn make() -> Option<Self> {
        let names = HOSTS.map(|(name, _)| format!("collm-{}-{name}", process::id()));
        let hosts = Self { names, folder: tempfile::tempdir().expect("a temporary folder") };
        match hosts.connect() {
            Ok(()) => Some(hosts),
            Err(why) => {
                eprintln!("SKIPPED: two hosts need root and network namespaces: {why}");
                None
            }
        }
    }

    fn connect(&self) -> Result<(), String> {
        let [cloud, edge] = &self.names;
        for name in &self.names {
            ip(&["netns", "add", name])?;
        }
        ip(&["link", "add", "cable", "netns", cloud, "type", "veth", "peer", "name", "cable", "netns", edge])?;
        for (name, (_, address)) in self.names.iter().zip(HOSTS) {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "cable"])?;
            ip(&["-n", name, "link", "set", "cable", "up"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            // What stands there replaces the file in /etc for what runs in the namespace.
            let table: String = HOSTS.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
            let etc = etc_of(name);
            fs::create_dir_all(&etc).and_then(|()| fs::write(etc.join("hosts"), table)).map_err(|e| e.to_string())?;
        }
        for (name, _) in HOSTS {
            fs::create_dir_all(self.home(name)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The folder in which whoever logs in finds themselves.
    fn home(&self, host: &str) -> PathBuf {
        self.folder.path().join("homes").join(host)
    }

    /// What is `/` for the page's commands.
    fn root(&self, host: &str) -> String {
        self.folder.path().join("roots").join(host).display().to_string()
    }

    /// Text of the repository, with the places of `host` in it.
    fn placed(&self, host: &str, text: &str) -> String {
        let root = self.root(host);
        ["/etc/collm", "/etc/systemd", "/var/lib/collm", "/opt/collm"]
            .iter()
            .fold(text.to_owned(), |text, place| text.replace(place, &format!("{root}{place}")))
    }

    /// A command that runs on `host`.
    fn command(&self, host: &str, program: &str) -> Command {
        let name = &self.names[usize::from(host == HOSTS[1].0)];
        // Takes over what must not be inherited.
        let plain = collm(&[]);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", name, program]).current_dir(self.home(host));
        for (variable, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        command.env("HOMES", self.folder.path().join("homes")).env_remove("XDG_RUNTIME_DIR");
        command
    }

    /// Types the commands of a section of the page on `host`.
    fn walk(&self, host: &str, section: &str) -> Output {
        let page = repository("docs/deploy.md");
        let commands = self.placed(host, &commands(&page, section));
        let program = Path::new(env!("CARGO_BIN_EXE_collm")).parent().expect("a folder").display();
        let script = format!("set -euo pipefail\nPATH={program}:$PATH\n{STAND_INS}\n{commands}");
        let output = self.command(host, "bash").args(["-c", &script]).output().expect("bash is there");
        assert!(output.status.success(), "{section}\n{commands}\n{}{}", stdout(&output), stderr(&output));
        output
    }

    /// Starts what the unit of a section starts, once its commands have put everything in place.
    fn serve(&self, host: &str, unit: &str) -> Server {
        let unit = repository(&format!("deploy/{unit}.service"));
        let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).expect("a line of the unit");
        let (_, arguments) = value("ExecStart=").split_once(' ').expect("a program with arguments");
        let config = self.placed(host, value("Environment=COLLM_CONFIG="));
        // The file is the page's, with this host's places in it.
        let settings = self.placed(host, &fs::read_to_string(&config).expect("the page put it there"));
        fs::write(&config, settings).expect("room");
        let mut command = self.command(host, env!("CARGO_BIN_EXE_collm"));
        command.args(arguments.split(' ')).args(["--threads", "1", "--context", "512", "--quiet"]);
        command.env("COLLM_CONFIG", config);
        Server::spawn(command)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            // Some may never have been made.
            let _ = ip(&["netns", "delete", name]);
            let _ = fs::remove_dir_all(etc_of(name));
        }
    }
}

fn etc_of(name: &str) -> PathBuf {
    Path::new("/etc/netns").join(name)
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(stderr(&output)) }
}

fn repository(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(file)).expect("it is in the repository")
}

/// The commands of a section that begins with this heading; its files of the repository as they are found from anywhere.
fn commands(page: &str, heading: &str) -> String {
    let (_, section) = page.split_once(&format!("## {heading}\n")).expect("a section of the page");
    let section = section.split("\n## ").next().expect("a first part");
    // Text and code take turns.
    let blocks: String = section.split("```").skip(1).step_by(2).collect();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").display().to_string();
    blocks.replace(" deploy/", &format!(" {deploy}/"))
}

#[test]
fn the_page_leads_to_an_edge_here_and_a_cloud_there() {
    let Some(hosts) = Hosts::make() else { return };
    // Fetched here, where there is a network.
    model();
    let [(cloud_host, _), (edge_host, _)] = HOSTS;
    hosts.walk(edge_host, "2. Split");
    hosts.walk(edge_host, "3. Secrets");
    hosts.walk(cloud_host, "4. The cloud");
    let _cloud = hosts.serve(cloud_host, "collm-cloud");
    hosts.walk(edge_host, "5. The edge");
    let _edge = hosts.serve(edge_host, "collm-edge");
    let asked = hosts.walk(edge_host, "6. Ask");
    let (answer, numbers) = (stdout(&asked), stderr(&asked));
    // An edge that the cloud refuses answers, too: alone.
    assert!(answer.len() > 20 && numbers.contains("cloud") && !numbers.contains("degraded"), "{answer}\n{numbers}");
}
