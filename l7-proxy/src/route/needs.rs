//! What a configuration's variables show, so that what none shows need not be kept.

use crate::model::{
    AccessLogTarget, CacheUse, Expires, Fallback, Handler, Http, Instruction, Location, PassTo, PassUri,
    ProxyPass, ReturnBody, Settings, StatusPage, Storing, Test, TryFiles, VirtualServer,
};
use crate::variable::{Definitions, Value, Variable};

/// What the variables of a configuration show of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Fields of a server's answer, also after the answer has been changed.
    pub upstream_fields: bool,
    /// Fields of the answer, also after it has been sent.
    pub sent_fields: bool,
    /// The servers that were tried.
    pub attempts: bool,
    /// The request's body.
    pub body: bool,
    /// How long servers take to answer.
    pub timings: bool,
    /// The file that a request's body is in.
    pub body_file: bool,
    /// What the kernel knows of clients' connections.
    pub tcp_info: bool,
}

impl Needs {
    /// Returns what the variables of a configuration show.
    pub(super) fn of(http: &Http) -> Self {
        let mut needs = Self::default();
        needs.definitions(&http.definitions);
        http.zones.iter().for_each(|zone| needs.value(&zone.key));
        http.servers.iter().for_each(|server| needs.server(server));
        needs
    }

    fn definitions(&mut self, definitions: &Definitions) {
        for (_, definition) in definitions.all() {
            definition.texts().into_iter().for_each(|text| self.value(text));
        }
    }

    fn server(&mut self, server: &VirtualServer) {
        self.script(&server.script);
        self.reply(server.reply.as_ref());
        self.settings(&server.settings);
        self.tried(server.try_files.as_ref());
        server.locations.iter().for_each(|location| self.location(location));
    }

    fn location(&mut self, location: &Location) {
        self.script(&location.script);
        self.reply(location.reply.as_ref());
        match &location.handler {
            Handler::ProxyTo(PassTo { url, .. })
            | Handler::Proxy(ProxyPass { uri: Some(PassUri::Whole(url)), .. }) => self.value(url),
            Handler::Status(StatusPage::Metrics) => self.timings = true,
            Handler::Files | Handler::Proxy(_) | Handler::Status(_) | Handler::EmptyGif => {}
        }
        self.tried(location.try_files.as_ref());
        self.settings(&location.settings);
        location.locations.iter().for_each(|location| self.location(location));
        if let Some(except) = &location.limit_except {
            self.location(&except.location);
        }
    }

    fn tried(&mut self, tried: Option<&TryFiles>) {
        let Some(tried) = tried else { return };
        tried.paths.iter().for_each(|tried| self.value(&tried.path));
        if let Fallback::Path(path) = &tried.last {
            self.value(path);
        }
    }

    fn script(&mut self, script: &[Instruction]) {
        for instruction in script {
            match instruction {
                Instruction::Set { value, .. } => self.value(value),
                Instruction::Rewrite(rewrite) => {
                    self.value(&rewrite.replacement);
                    rewrite.args.iter().for_each(|args| self.value(args));
                }
                Instruction::If(branch) => {
                    match &branch.condition.test {
                        Test::Equal(one, other) => {
                            [one, other].into_iter().for_each(|value| self.value(value))
                        }
                        Test::Set(value) | Test::Matches(value, _) | Test::Path(_, value) => {
                            self.value(value)
                        }
                    }
                    self.script(&branch.script);
                    self.reply(branch.reply.as_ref());
                    branch.location.iter().for_each(|location| self.location(location));
                }
                Instruction::Break => {}
            }
        }
    }

    fn reply(&mut self, reply: Option<&crate::model::Return>) {
        if let Some(ReturnBody::Text(value) | ReturnBody::Location(value)) = reply.map(|reply| &reply.body) {
            self.value(value);
        }
    }

    fn settings(&mut self, settings: &Settings) {
        for field in settings.add_headers.iter().chain(&settings.add_trailers) {
            self.value(&field.value);
        }
        for log in &settings.access_log {
            self.value(&log.format.line);
            if let AccessLogTarget::Varying(path) = &log.target {
                self.value(path);
            }
            log.condition.iter().for_each(|condition| self.value(condition));
        }
        if let Expires::Value { text, .. } = &settings.expires {
            self.value(text);
        }
        let rates = [&settings.limit_rate, &settings.limit_rate_after];
        rates.into_iter().flatten().for_each(|value| self.value(value));
        for proxy in [&settings.proxy, &settings.grpc.0] {
            proxy.limit_rate.iter().for_each(|value| self.value(value));
            proxy.set_headers.iter().for_each(|set| self.value(&set.value));
            proxy.set_body.iter().chain(&proxy.method).for_each(|value| self.value(value));
            if let Storing::At(path) = &proxy.store {
                self.value(path);
            }
            if let CacheUse::Named(name) = &proxy.cache {
                self.value(name);
            }
            if proxy.cache != CacheUse::Off {
                proxy.cache_rules.values().for_each(|value| self.value(value));
            }
        }
        let charset = &settings.charset;
        charset.name.iter().chain(&charset.source).for_each(|name| self.value(name));
        for (text, replacement) in &settings.substitution.pairs {
            self.value(text);
            self.value(replacement);
        }
        settings.auth.request_sets.iter().for_each(|(_, value)| self.value(value));
        settings.early_hints.iter().for_each(|value| self.value(value));
        settings.error_pages.iter().for_each(|page| self.value(&page.target));
    }

    fn value(&mut self, value: &Value) {
        for variable in value.variables() {
            match variable {
                Variable::UpstreamHeader(_) | Variable::UpstreamCookie(_) | Variable::UpstreamTrailer(_) => {
                    self.upstream_fields = true;
                }
                Variable::SentHeader(_) | Variable::SentTrailer(_) => self.sent_fields = true,
                Variable::UpstreamAddr
                | Variable::UpstreamBytesReceived
                | Variable::UpstreamBytesSent
                | Variable::UpstreamStatus
                | Variable::UpstreamHeaderTime
                | Variable::UpstreamConnectTime
                | Variable::UpstreamResponseLength
                | Variable::UpstreamResponseTime => self.attempts = true,
                Variable::RequestBody => self.body = true,
                Variable::TcpInfo(_) => self.tcp_info = true,
                Variable::RequestBodyFile => self.body_file = true,
                _ => {}
            }
        }
    }
}
