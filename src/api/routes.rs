//! The whole interface in one table.

use std::borrow::Cow;

use http::Method;

use super::call::{Answer, Call};
use super::unsupported::{self as no, Refusal};
use super::{attach, containers, events, health, images, logs, networks, openapi, system};

/// How a path was spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `/internal/v1/…`
    Internal,
    /// `/…` and `/v1.NN/…`
    Docker,
}

/// What is done with a request.
#[derive(Clone, Copy)]
pub(super) enum Action {
    /// A handler answers.
    Handle(fn(Call) -> Answer),
    /// The answer is always the same.
    Refuse(Refusal),
}

/// One line of the table.
pub(super) struct Route {
    /// The method; `None`: any.
    pub(super) method: Option<Method>,
    /// The path, with `{names}`.
    pub(super) template: &'static str,
    /// In which spellings it is served; `None`: both.
    only: Option<Spelling>,
    /// What is done.
    pub(super) action: Action,
    /// Asked so often by machines that the log leaves it out.
    pub(super) quiet: bool,
    /// What becomes of the body.
    pub(super) body: BodyUse,
}

/// What a route does with a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyUse {
    /// The handler needs it, as JSON. It must not wait for AWS: as long as it has a large one, it holds a place that others
    /// need.
    Json,
    /// Nothing is in it that the handler needs, but its type must be right.
    Dropped,
    /// It is no JSON, or not for us: a handler gets it as it is, whatever its type is; the service drains that of a refused route.
    Raw,
}

impl Route {
    /// A route with a handler.
    const fn handled(
        method: Option<Method>,
        only: Option<Spelling>,
        template: &'static str,
        handler: fn(Call) -> Answer,
        body: BodyUse,
    ) -> Self {
        Self { method, template, only, action: Action::Handle(handler), quiet: false, body }
    }

    /// The same, left out of the log.
    const fn quietly(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Whether it is served in this spelling.
    pub(super) fn has(&self, spelling: Spelling) -> bool {
        self.only.is_none_or(|only| only == spelling)
    }
}

const BOTH: Option<Spelling> = None;
const INTERNAL: Option<Spelling> = Some(Spelling::Internal);
const DOCKER: Option<Spelling> = Some(Spelling::Docker);
const ANY: Option<Method> = None;
const GET: Option<Method> = Some(Method::GET);
const HEAD: Option<Method> = Some(Method::HEAD);
const POST: Option<Method> = Some(Method::POST);
const PUT: Option<Method> = Some(Method::PUT);
const DELETE: Option<Method> = Some(Method::DELETE);

macro_rules! routes {
    ($($method:ident $only:ident $template:literal $kind:ident($($action:tt)*);)*) => {
        &[$(routes!(@ $method $only $template $kind($($action)*))),*]
    };
    (@ $method:ident $only:ident $template:literal call($($handler:tt)*)) => {
        Route::handled($method, $only, $template, |call| Box::pin($($handler)*(call)), BodyUse::Dropped)
    };
    (@ $method:ident $only:ident $template:literal json($($handler:tt)*)) => {
        Route::handled($method, $only, $template, |call| Box::pin($($handler)*(call)), BodyUse::Json)
    };
    (@ $method:ident $only:ident $template:literal raw($($handler:tt)*)) => {
        Route::handled($method, $only, $template, |call| Box::pin($($handler)*(call)), BodyUse::Raw)
    };
    (@ $method:ident $only:ident $template:literal quiet($($handler:tt)*)) => {
        Route::handled($method, $only, $template, |call| Box::pin($($handler)*(call)), BodyUse::Dropped).quietly()
    };
    (@ $method:ident $only:ident $template:literal refuse($($refusal:tt)*)) => {
        Route {
            method: $method,
            template: $template,
            only: $only,
            action: Action::Refuse($($refusal)*),
            quiet: false,
            body: BodyUse::Raw,
        }
    };
}

/// Every route. A path that two lines match goes to the one with the fewer placeholders.
#[rustfmt::skip]
pub(super) const ROUTES: &[Route] = routes! {
    // The daemon itself.
    GET    BOTH     "/_ping"                        quiet(system::ping);
    HEAD   BOTH     "/_ping"                        quiet(system::ping_head);
    GET    DOCKER   "/healthz"                      quiet(health::alive);
    GET    DOCKER   "/readyz"                       quiet(health::ready);
    GET    INTERNAL "/capabilities"                 call(system::capabilities);
    GET    INTERNAL "/openapi.json"                 call(openapi::serve);
    GET    BOTH     "/info"                         call(system::info);
    GET    BOTH     "/version"                      call(system::version);
    GET    BOTH     "/events"                       call(events::stream);
    GET    BOTH     "/system/df"                    call(system::disk_usage);
    POST   BOTH     "/auth"                         json(system::auth);

    // Containers.
    POST   INTERNAL "/containers"                   json(containers::create);
    POST   DOCKER   "/containers/create"            json(containers::create);
    GET    INTERNAL "/containers"                   call(containers::list);
    GET    DOCKER   "/containers/json"              call(containers::list);
    POST   BOTH     "/containers/prune"             call(containers::prune);
    GET    INTERNAL "/containers/{id}"              call(containers::inspect);
    GET    DOCKER   "/containers/{id}/json"         call(containers::inspect);
    DELETE BOTH     "/containers/{id}"              call(containers::remove);
    POST   BOTH     "/containers/{id}/start"        call(containers::start);
    POST   BOTH     "/containers/{id}/stop"         call(containers::stop);
    POST   BOTH     "/containers/{id}/kill"         call(containers::kill);
    POST   BOTH     "/containers/{id}/restart"      call(containers::restart);
    POST   BOTH     "/containers/{id}/rename"       call(containers::rename);
    POST   BOTH     "/containers/{id}/wait"         call(containers::wait);
    GET    BOTH     "/containers/{id}/logs"         call(logs::logs);
    GET    DOCKER   "/containers/{id}/stats"        call(containers::stats);
    GET    INTERNAL "/containers/{id}/stats"        refuse(no::STATS);
    POST   DOCKER   "/containers/{id}/attach"       raw(attach::attach);
    POST   INTERNAL "/containers/{id}/attach"       refuse(no::ATTACH);
    GET    BOTH     "/containers/{id}/attach/ws"    refuse(no::ATTACH);
    POST   DOCKER   "/containers/{id}/resize"       call(attach::resize);
    POST   INTERNAL "/containers/{id}/resize"       refuse(no::RESIZE);
    POST   BOTH     "/containers/{id}/exec"         refuse(no::EXEC);
    GET    BOTH     "/exec/{id}"                    refuse(no::EXEC);
    GET    BOTH     "/exec/{id}/json"               refuse(no::EXEC);
    POST   BOTH     "/exec/{id}/start"              refuse(no::EXEC);
    POST   BOTH     "/exec/{id}/resize"             refuse(no::EXEC);
    POST   BOTH     "/containers/{id}/pause"        refuse(no::PAUSE);
    POST   BOTH     "/containers/{id}/unpause"      refuse(no::UNPAUSE);
    POST   BOTH     "/containers/{id}/update"       refuse(no::UPDATE);
    GET    BOTH     "/containers/{id}/top"          refuse(no::TOP);
    GET    BOTH     "/containers/{id}/changes"      refuse(no::CHANGES);
    GET    BOTH     "/containers/{id}/export"       refuse(no::EXPORT);
    GET    BOTH     "/containers/{id}/archive"      refuse(no::ARCHIVE);
    PUT    BOTH     "/containers/{id}/archive"      refuse(no::ARCHIVE);
    HEAD   BOTH     "/containers/{id}/archive"      refuse(no::ARCHIVE);

    // Images.
    POST   INTERNAL "/images/pull"                  json(images::pull);
    POST   DOCKER   "/images/create"                raw(images::create);
    GET    INTERNAL "/images"                       call(images::list);
    GET    DOCKER   "/images/json"                  call(images::list);
    GET    INTERNAL "/images/inspect"               call(images::inspect);
    GET    INTERNAL "/images/{name}"                call(images::inspect);
    GET    DOCKER   "/images/{name}/json"           call(images::inspect);
    GET    BOTH     "/images/{name}/history"        call(images::history);
    DELETE BOTH     "/images/{name}"                call(images::remove);
    POST   INTERNAL "/images/tag"                   call(images::tag);
    POST   BOTH     "/images/{name}/tag"            call(images::tag);
    POST   BOTH     "/images/prune"                 call(images::prune);
    POST   BOTH     "/images/load"                  refuse(no::LOAD);
    POST   BOTH     "/images/{name}/push"           refuse(no::PUSH);
    GET    BOTH     "/images/{name}/get"            refuse(no::SAVE);
    GET    BOTH     "/images/get"                   refuse(no::SAVE);
    GET    BOTH     "/images/search"                refuse(no::SEARCH);
    POST   BOTH     "/commit"                       refuse(no::COMMIT);
    POST   BOTH     "/build"                        refuse(no::BUILD);
    POST   BOTH     "/build/cancel"                 refuse(no::BUILD);
    POST   DOCKER   "/build/prune"                  call(networks::prune_build_cache);
    POST   INTERNAL "/build/prune"                  refuse(no::BUILD);
    GET    BOTH     "/distribution/{name}/json"     refuse(no::DISTRIBUTION);
    POST   BOTH     "/session"                      refuse(no::SESSION);
    POST   BOTH     "/grpc"                         refuse(no::SESSION);

    // Networks, volumes, plugins.
    ANY    INTERNAL "/networks"                     refuse(no::NETWORKS_INTERNAL);
    ANY    INTERNAL "/networks/{*rest}"             refuse(no::NETWORKS_INTERNAL);
    ANY    INTERNAL "/volumes"                      refuse(no::VOLUMES_INTERNAL);
    ANY    INTERNAL "/volumes/{*rest}"              refuse(no::VOLUMES_INTERNAL);
    ANY    INTERNAL "/plugins"                      refuse(no::PLUGINS);
    ANY    INTERNAL "/plugins/{*rest}"              refuse(no::PLUGINS);
    GET    DOCKER   "/networks"                     call(networks::list_networks);
    POST   DOCKER   "/networks/prune"               call(networks::prune_networks);
    POST   DOCKER   "/networks/create"              refuse(no::NETWORKS);
    GET    DOCKER   "/networks/{id}"                call(networks::inspect_network);
    DELETE DOCKER   "/networks/{id}"                refuse(no::NETWORKS);
    POST   DOCKER   "/networks/{id}/connect"        refuse(no::NETWORKS);
    POST   DOCKER   "/networks/{id}/disconnect"     refuse(no::NETWORKS);
    GET    DOCKER   "/volumes"                      call(networks::list_volumes);
    POST   DOCKER   "/volumes/prune"                call(networks::prune_volumes);
    POST   DOCKER   "/volumes/create"               refuse(no::VOLUMES);
    GET    DOCKER   "/volumes/{name}"               call(networks::inspect_volume);
    PUT    DOCKER   "/volumes/{name}"               refuse(no::VOLUMES);
    DELETE DOCKER   "/volumes/{name}"               refuse(no::VOLUMES);
    GET    DOCKER   "/plugins"                      call(networks::list_plugins);
    GET    DOCKER   "/plugins/{name}/json"          call(networks::inspect_plugin);
    GET    DOCKER   "/plugins/privileges"           refuse(no::PLUGINS);
    POST   DOCKER   "/plugins/pull"                 refuse(no::PLUGINS);
    POST   DOCKER   "/plugins/create"               refuse(no::PLUGINS);
    DELETE DOCKER   "/plugins/{name}"               refuse(no::PLUGINS);
    POST   DOCKER   "/plugins/{name}/enable"        refuse(no::PLUGINS);
    POST   DOCKER   "/plugins/{name}/disable"       refuse(no::PLUGINS);
    POST   DOCKER   "/plugins/{name}/upgrade"       refuse(no::PLUGINS);
    POST   DOCKER   "/plugins/{name}/push"          refuse(no::PLUGINS);
    POST   DOCKER   "/plugins/{name}/set"           refuse(no::PLUGINS);

    // Swarm.
    POST   BOTH     "/swarm/init"                   refuse(no::SWARM);
    POST   BOTH     "/swarm/join"                   refuse(no::SWARM);
    POST   BOTH     "/swarm/leave"                  refuse(no::NO_SWARM);
    POST   BOTH     "/swarm/update"                 refuse(no::NO_SWARM);
    POST   BOTH     "/swarm/unlock"                 refuse(no::NO_SWARM);
    GET    BOTH     "/swarm/unlockkey"              refuse(no::NO_SWARM);
    GET    BOTH     "/swarm"                        refuse(no::NO_SWARM);
    ANY    BOTH     "/nodes"                        refuse(no::NO_SWARM);
    ANY    BOTH     "/nodes/{*rest}"                refuse(no::NO_SWARM);
    ANY    BOTH     "/services"                     refuse(no::NO_SWARM);
    ANY    BOTH     "/services/{*rest}"             refuse(no::NO_SWARM);
    ANY    BOTH     "/tasks"                        refuse(no::NO_SWARM);
    ANY    BOTH     "/tasks/{*rest}"                refuse(no::NO_SWARM);
    ANY    BOTH     "/secrets"                      refuse(no::NO_SWARM);
    ANY    BOTH     "/secrets/{*rest}"              refuse(no::NO_SWARM);
    ANY    BOTH     "/configs"                      refuse(no::NO_SWARM);
    ANY    BOTH     "/configs/{*rest}"              refuse(no::NO_SWARM);
};

/// A line of the table, for documents and tests that must not forget one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The method; `None`: any.
    pub method: Option<&'static str>,
    /// The path behind the spelling's prefix, with `{names}`; `{*rest}` is everything to the end.
    pub template: &'static str,
    /// Below `/internal/v1`; else below `/` and `/v1.NN`.
    pub internal: bool,
}

/// The whole interface, each line once for each spelling that it is served in.
pub fn endpoints() -> impl Iterator<Item = Endpoint> {
    ROUTES.iter().flat_map(|route| {
        let endpoint = |spelling| Endpoint {
            method: route.method.as_ref().map(Method::as_str),
            template: route.template,
            internal: spelling == Spelling::Internal,
        };
        let served = |spelling: &Spelling| route.only.is_none_or(|only| only == *spelling);
        [Spelling::Internal, Spelling::Docker].into_iter().filter(served).map(endpoint)
    })
}

/// The table, made ready for look-ups.
#[derive(Debug)]
pub(super) struct Routes {
    internal: matchit::Router<Vec<usize>>,
    docker: matchit::Router<Vec<usize>>,
}

impl Routes {
    /// Fails when the table contradicts itself, which a test rules out.
    pub(super) fn new() -> Result<Self, matchit::InsertError> {
        Ok(Self { internal: router(Spelling::Internal)?, docker: router(Spelling::Docker)? })
    }

    /// The route of a request, and the parts of its path, still escaped.
    pub(super) fn find(
        &self,
        method: &Method,
        spelling: Spelling,
        path: &str,
    ) -> Option<(&'static Route, Vec<(String, String)>)> {
        let router = match spelling {
            Spelling::Internal => &self.internal,
            Spelling::Docker => &self.docker,
        };
        let single = single_slashes(path);
        let folded = fold_name(method, &single);
        let found = router.at(folded.as_deref().unwrap_or(&single)).ok()?;
        let fits = |route: &&Route| route.method.as_ref().is_none_or(|wanted| wanted == method);
        let route = found.value.iter().filter_map(|index| ROUTES.get(*index)).find(fits)?;
        Some((route, found.params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

fn router(spelling: Spelling) -> Result<matchit::Router<Vec<usize>>, matchit::InsertError> {
    let mut by_template: Vec<(&'static str, Vec<usize>)> = Vec::new();
    for (index, route) in ROUTES.iter().enumerate() {
        if !route.has(spelling) {
            continue;
        }
        match by_template.iter_mut().find(|(template, _)| *template == route.template) {
            Some((_, indexes)) => indexes.push(index),
            None => by_template.push((route.template, vec![index])),
        }
    }
    let mut router = matchit::Router::new();
    for (template, indexes) in by_template {
        router.insert(template, indexes)?;
    }
    Ok(router)
}

/// A name as the lists show it begins with a slash, and some clients put it into the path as it is.
fn single_slashes(path: &str) -> Cow<'_, str> {
    let mut path = Cow::Borrowed(path);
    while path.contains("//") {
        path = Cow::Owned(path.replace("//", "/"));
    }
    path
}

/// Image and plugin names have slashes in them, and Docker's clients send them as they are:
/// `/images/a/b:1/json` becomes `/images/a%2Fb:1/json`. `None`: the path can stay as it is.
fn fold_name(method: &Method, path: &str) -> Option<String> {
    let (collection, rest) = ["/images/", "/distribution/", "/plugins/"]
        .iter()
        .find_map(|collection| path.strip_prefix(collection).map(|rest| (collection, rest)))?;
    let verbs: &[&str] = match (*collection, method) {
        ("/images/", &Method::GET) => &["/json", "/history", "/get"],
        ("/images/", &Method::POST) => &["/tag", "/push"],
        ("/distribution/", _) => &["/json"],
        ("/plugins/", &Method::GET) => &["/json"],
        ("/plugins/", &Method::POST) => &["/enable", "/disable", "/upgrade", "/push", "/set"],
        _ => &[],
    };
    let verb = verbs.iter().copied().find(|verb| rest.ends_with(verb)).unwrap_or("");
    let name = rest.strip_suffix(verb)?;
    name.contains('/').then(|| format!("{collection}{}{verb}", name.replace('/', "%2F")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(method: &Method, spelling: Spelling, path: &str) -> Option<(&'static str, Vec<String>)> {
        let routes = Routes::new().unwrap();
        let (route, params) = routes.find(method, spelling, path)?;
        Some((route.template, params.into_iter().map(|(_, value)| value).collect()))
    }

    #[test]
    fn the_table_does_not_contradict_itself() {
        Routes::new().unwrap();
        for (index, route) in ROUTES.iter().enumerate() {
            let twin = ROUTES[..index].iter().find(|other| {
                other.template == route.template
                    && (other.method.is_none() || route.method.is_none() || other.method == route.method)
                    && (other.only.is_none() || route.only.is_none() || other.only == route.only)
            });
            assert!(twin.is_none(), "{} stands twice", route.template);
        }
    }

    #[test]
    fn the_two_spellings() {
        use Spelling::{Docker, Internal};
        for (method, spelling, path, found) in [
            (Method::POST, Internal, "/containers", Some("/containers")),
            (Method::POST, Docker, "/containers/create", Some("/containers/create")),
            (Method::POST, Docker, "/containers", None),
            (Method::GET, Internal, "/containers/abc", Some("/containers/{id}")),
            (Method::GET, Docker, "/containers/abc/json", Some("/containers/{id}/json")),
            (Method::GET, Docker, "/containers//abc/json", Some("/containers/{id}/json")),
            (Method::GET, Docker, "/containers/json", Some("/containers/json")),
            (Method::PUT, Docker, "/containers/json", None),
            (Method::GET, Docker, "/capabilities", None),
            (Method::PATCH, Internal, "/networks/x/y", Some("/networks/{*rest}")),
            (Method::GET, Docker, "/nowhere", None),
        ] {
            assert_eq!(template(&method, spelling, path).map(|(template, _)| template), found, "{method} {path}");
        }
    }

    #[test]
    fn image_names_may_have_slashes_in_both_ways() {
        let docker = |method, path| template(&method, Spelling::Docker, path);
        for (method, path, expected, name) in [
            (Method::GET, "/images/alpine/json", "/images/{name}/json", "alpine"),
            (Method::GET, "/images/library%2Falpine:1/json", "/images/{name}/json", "library%2Falpine:1"),
            (Method::GET, "/images/ghcr.io/a/b:1/json", "/images/{name}/json", "ghcr.io%2Fa%2Fb:1"),
            (Method::DELETE, "/images/a/b", "/images/{name}", "a%2Fb"),
            (Method::DELETE, "/images/a/json", "/images/{name}", "a%2Fjson"),
            (Method::POST, "/images/a/b/tag", "/images/{name}/tag", "a%2Fb"),
            (Method::GET, "/images/r:5000/a/history", "/images/{name}/history", "r:5000%2Fa"),
        ] {
            assert_eq!(docker(method, path), Some((expected, vec![name.to_owned()])), "{path}");
        }
        assert_eq!(docker(Method::GET, "/images/json"), Some(("/images/json", vec![])));
        let internal = template(&Method::GET, Spelling::Internal, "/images/a/b");
        assert_eq!(internal, Some(("/images/{name}", vec!["a%2Fb".to_owned()])));
    }
}
