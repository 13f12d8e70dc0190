//! Sources of credentials on this machine: a process, a container's endpoint, the metadata service, STS, a profile's role.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

use crate::harness::{Run, World, run};
use crate::server::{Seen, Server, answer};
use crate::support::adapter::Plan;

pub const ROLE: &str = "arn:aws:iam::123456789012:role/reader";

/// How a source answers now.
#[derive(Debug, Clone, PartialEq)]
pub enum Mood {
    /// With this access key id.
    Key(String),
    /// With a status and a body that are no credentials.
    Answer(u16, String),
}

impl Mood {
    pub fn key(id: &str) -> Self {
        Self::Key(id.to_owned())
    }
}

/// Where the adapter gets its credentials.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Process,
    Container,
    Metadata,
    AssumedRole,
    WebIdentity,
    /// A profile's role, assumed with what a process says.
    RoleOfProcess,
    /// A profile's role, assumed with what a process of the same profile says.
    RoleOfOwnProcess,
    /// A profile's role, assumed with what a container's endpoint says.
    RoleOfContainer,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Process,
        Self::Container,
        Self::Metadata,
        Self::AssumedRole,
        Self::WebIdentity,
        Self::RoleOfProcess,
        Self::RoleOfOwnProcess,
        Self::RoleOfContainer,
    ];
}

/// One source, whose mood can change while it is used.
pub struct Source {
    folder: tempfile::TempDir,
    mood: Arc<Mutex<Mood>>,
    kind: Kind,
    life: Duration,
    pub server: Server,
}

impl Source {
    /// Its credentials end so soon that the SDK asks again for every call.
    pub async fn start(kind: Kind, mood: Mood) -> Self {
        Self::lasting(kind, mood, Duration::from_secs(5)).await
    }

    /// Its credentials last so long.
    pub async fn lasting(kind: Kind, mood: Mood, life: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mood = Arc::new(Mutex::new(mood));
        let (shown, roles_only) = (mood.clone(), matches!(kind, Kind::RoleOfProcess | Kind::RoleOfOwnProcess));
        let server = Server::start(move |request| {
            let mood = if roles_only { Mood::key("GOOD") } else { shown.lock().unwrap().clone() };
            respond(request, &mood, life)
        })
        .await;
        let source = Self { folder, mood, kind, life, server };
        source.write_files();
        source
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.write_process_answer();
    }

    /// How often credentials were asked for: of the process, of anything else.
    pub fn asked(&self) -> (usize, usize) {
        let is_for_credentials = |seen: &&Seen| {
            seen.body.contains("Action=AssumeRole") || seen.path.ends_with("/role") || seen.path == "/container"
        };
        let runs = std::fs::read_to_string(self.path("runs")).unwrap_or_default().lines().count();
        (runs, self.server.seen().iter().filter(is_for_credentials).count())
    }

    /// What `check` says with these credentials, of a sound table and a sound sink.
    pub async fn check(&self) -> Run {
        let world = World::new().await;
        let mut command = self.of(world.plan().clone()).command();
        command.args(["check", "--output", "json"]);
        run(command).await
    }

    /// The plan with this source in the place of keys in the environment.
    pub fn of(&self, plan: Plan) -> Plan {
        let url = self.server.url();
        let plan = plan
            .env("AWS_ENDPOINT_URL_STS", &url)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("PATH", "/usr/bin:/bin");
        if self.kind == Kind::AssumedRole {
            return plan.env("AWS_ASSUME_ROLE_ARN", ROLE);
        }
        let plan = plan.without("AWS_ACCESS_KEY_ID").without("AWS_SECRET_ACCESS_KEY");
        let container = format!("{url}/container");
        match self.kind {
            Kind::Process => plan.env("AWS_CONFIG_FILE", self.path("process")),
            Kind::Container => plan.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", container),
            Kind::Metadata => {
                plan.env("AWS_EC2_METADATA_DISABLED", "false").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
            }
            Kind::WebIdentity => plan.env("AWS_ROLE_ARN", ROLE).env("AWS_WEB_IDENTITY_TOKEN_FILE", self.path("token")),
            Kind::RoleOfProcess => plan.env("AWS_CONFIG_FILE", self.path("role-of-process")),
            Kind::RoleOfOwnProcess => plan.env("AWS_CONFIG_FILE", self.path("role-of-own-process")),
            Kind::RoleOfContainer => plan
                .env("AWS_CONFIG_FILE", self.path("role-of-container"))
                .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", container),
            Kind::AssumedRole => plan,
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn write_files(&self) {
        let (script, said, runs) = (self.path("credentials.sh"), self.path("said"), self.path("runs"));
        write(Path::new(&script), &format!("#!/bin/sh\necho run >>{runs}\ncat {said}\n"));
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let process = format!("[default]\ncredential_process = {script}\n");
        let role_of = |more: &str| format!("[default]\nrole_arn = {ROLE}\n{more}");
        write(
            Path::new(&self.path("role-of-process")),
            &role_of(&process.replace("[default]", "source_profile = base\n[profile base]")),
        );
        write(
            Path::new(&self.path("role-of-own-process")),
            &role_of(&process.replace("[default]", "source_profile = default")),
        );
        write(Path::new(&self.path("role-of-container")), &role_of("credential_source = EcsContainer\n"));
        write(Path::new(&self.path("process")), &process);
        write(Path::new(&self.path("token")), "a-token");
        self.write_process_answer();
    }

    fn write_process_answer(&self) {
        let text = match &*self.mood.lock().unwrap() {
            Mood::Key(id) => serde_json::json!({
                "Version": 1, "AccessKeyId": id, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": after(self.life)
            })
            .to_string(),
            Mood::Answer(_, text) => text.clone(),
        };
        write(Path::new(&self.path("said")), &text);
    }
}

fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn after(life: Duration) -> String {
    humantime::format_rfc3339_seconds(SystemTime::now() + life).to_string()
}

fn respond(request: &Seen, mood: &Mood, life: Duration) -> Response<Full<Bytes>> {
    let (path, body) = (request.path.as_str(), request.body.as_str());
    let is_disabled = matches!(mood, Mood::Answer(403, _));
    if path.ends_with("/api/token") && !is_disabled {
        let mut token = answer(200, "token");
        token.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", 60.into());
        return token;
    }
    if path.ends_with("/security-credentials/") {
        return answer(200, "role");
    }
    let id = match mood {
        Mood::Key(id) => id,
        Mood::Answer(status, text) => return answer(*status, text.clone()),
    };
    match body.contains("Action=AssumeRole") {
        true => answer(200, of_sts(body, id, life)),
        false => answer(200, of_endpoint(id, life)),
    }
}

fn of_sts(request: &str, id: &str, life: Duration) -> String {
    let action = if request.contains("WithWebIdentity") { "AssumeRoleWithWebIdentity" } else { "AssumeRole" };
    let id = id.replace('\n', "&#10;");
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
         <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
         <Expiration>{}</Expiration></Credentials></{action}Result></{action}Response>",
        after(life)
    )
}

fn of_endpoint(id: &str, life: Duration) -> String {
    serde_json::json!({
        "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": id, "SecretAccessKey": "s", "Token": "t",
        "Expiration": after(life), "LastUpdated": "2026-01-01T00:00:00Z"
    })
    .to_string()
}
