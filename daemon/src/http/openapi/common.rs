//! What all routes have in common: headers of every answer, the promises that a read may ask for, and problems.

use std::collections::BTreeSet;

use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Required};

use super::super::problem;

/// On every answer under a name of the cluster's.
const HEADERS: [&str; 2] = ["Chorus-Index", "Chorus-Node"];
/// Of reads.
const PROMISES: [&str; 2] = ["consistency", "min_index"];
/// Of reads whose answers are kept.
pub(super) const CACHE_CONTROL: &str = "Cache-Control";
/// Of what changes something.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Pages that show the state.
const PAGES: [&str; 7] = ["/", "/donors", "/donors.csv", "/books", "/books/{id}", "/orders", "/tasks"];

/// Statuses of the problems that any request may meet.
const OF_ALL: [u16; 4] = [401, 403, 429, 500];
/// Those that a read may meet besides.
const OF_READS: [u16; 3] = [404, 422, 503];
/// Those that a change may meet besides.
const OF_CHANGES: [u16; 11] = [400, 404, 408, 409, 410, 412, 413, 422, 503, 504, 507];

/// Adds all of it.
pub(super) fn complete(document: &mut OpenApi) {
    add_components(document);
    let mut ids = BTreeSet::new();
    for (path, item) in &mut document.paths.paths {
        let about_state = path.starts_with("/api/v1/") || is_original(path);
        for (method, operation) in operations(item) {
            name_once(&mut ids, method, operation);
            if about_state && method != "get" {
                refer_to_parameters(operation, &[IDEMPOTENCY_KEY]);
                refer_to_problems(operation, &OF_CHANGES);
            } else if method == "get" && (about_state || PAGES.contains(&path.as_str())) {
                if path != "/api/v1/feed" {
                    refer_to_parameters(operation, &PROMISES);
                }
                refer_to_problems(operation, &OF_READS);
            }
            refer_to_problems(operation, &OF_ALL);
            let otherwise = RefOr::Ref(Ref::from_response_name("Problem"));
            operation.responses.responses.insert("default".to_owned(), otherwise);
            operation.responses.responses.values_mut().for_each(add_headers);
        }
    }
}

fn is_original(path: &str) -> bool {
    ["/search", "/lookup", "/info/", "/buy", "/purchase/"].iter().any(|root| path.starts_with(root))
}

/// The operations of a path, by their methods.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let operations = [
        ("get", &mut item.get),
        ("post", &mut item.post),
        ("put", &mut item.put),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ];
    operations.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// One handler may answer to several methods; an operation has a name of its own.
fn name_once(ids: &mut BTreeSet<String>, method: &str, operation: &mut Operation) {
    let id = operation.operation_id.get_or_insert_default();
    if !ids.insert(id.clone()) {
        id.push_str("_by_");
        id.push_str(method);
        ids.insert(id.clone());
    }
}

fn refer_to_parameters(operation: &mut Operation, names: &[&str]) {
    let references = names.iter().map(|name| RefOr::Ref(Ref::new(format!("#/components/parameters/{name}"))));
    operation.parameters.get_or_insert_default().extend(references);
}

fn refer_to_problems(operation: &mut Operation, statuses: &[u16]) {
    for status in statuses {
        let problem = RefOr::Ref(Ref::from_response_name(problem_name(*status)));
        operation.responses.responses.entry(status.to_string()).or_insert(problem);
    }
}

fn problem_name(status: u16) -> String {
    format!("Problem{status}")
}

fn add_headers(response: &mut RefOr<Response>) {
    // A response that is referred to has them where it stands.
    if let RefOr::T(response) = response {
        for name in HEADERS {
            let header = RefOr::Ref(Ref::new(format!("#/components/headers/{name}")));
            response.headers.insert(name.to_owned(), header);
        }
    }
}

fn add_components(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let index =
        header(Type::Integer, "The applied index that the answer rests on; not told under a foreign name");
    let node = header(Type::String, "The node that answered; not told under a foreign name");
    let cache = header(
        Type::String,
        "`hit`: the answer was kept in memory, and nothing that it rests on has changed; `miss`: it was read just now",
    );
    let replayed =
        header(Type::String, "`true`: the key had been used before, and this is the answer of then");
    let version = header(Type::String, "The version that `If-Match` asks for");
    let location = header(Type::String, "Where the row is");
    let headers = [
        (HEADERS[0], index),
        (HEADERS[1], node),
        ("Chorus-Cache", cache),
        ("Idempotency-Replayed", replayed),
        ("ETag", version),
        ("Location", location),
    ];
    components.headers.extend(headers.map(|(name, header)| (name.to_owned(), header.into())));
    let parameters = [
        parameter(
            CACHE_CONTROL,
            ParameterIn::Header,
            "`no-cache`: read the rows anew, and keep nothing of it in memory (RFC 9111, 5.2.1.4)",
            ObjectBuilder::new().schema_type(Type::String),
        ),
        parameter(
            PROMISES[0],
            ParameterIn::Query,
            "Whether the answer must hold all that was acknowledged before it was asked for [default: local]",
            ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["local", "linearizable"])),
        ),
        parameter(
            PROMISES[1],
            ParameterIn::Query,
            "Wait until this index is applied here",
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)),
        ),
        parameter(
            IDEMPOTENCY_KEY,
            ParameterIn::Header,
            "Names the request: sent again under the same key, to any node, it is carried out once and answered alike",
            ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]{1,64}$")),
        ),
        parameter(
            "If-Match",
            ParameterIn::Header,
            "Only if the row has this version: \"INDEX\", or * for whatever is there",
            ObjectBuilder::new().schema_type(Type::String).pattern(Some("^(\\*|\"[0-9]+\")$")),
        ),
    ];
    components.parameters.extend(parameters.map(|(name, parameter)| (name.to_owned(), RefOr::T(parameter))));
    let problems = problem::statuses().into_iter().map(|(status, codes)| (problem_name(status), codes));
    let any = ("Problem".to_owned(), "It did not work out".to_owned());
    for (name, codes) in problems.chain([any]) {
        let mut response = RefOr::T(a_problem(&codes));
        add_headers(&mut response);
        components.responses.insert(name, response);
    }
}

fn header(kind: Type, about: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(kind);
    HeaderBuilder::new().schema(Some(schema)).description(Some(about)).build()
}

fn parameter(
    name: &'static str,
    place: ParameterIn,
    about: &str,
    schema: ObjectBuilder,
) -> (&'static str, utoipa::openapi::path::Parameter) {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(schema));
    (name, parameter.build())
}

fn a_problem(codes: &str) -> Response {
    let schema = Ref::from_schema_name("Problem");
    let wait = header(Type::Integer, "Seconds to wait before it is worth trying again");
    ResponseBuilder::new()
        .description(codes)
        .content("application/problem+json", Content::new(Some(schema)))
        .header("Retry-After", wait)
        .build()
}
