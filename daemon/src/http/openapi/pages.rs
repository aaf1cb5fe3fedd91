//! The pages, which are for people: where they are, and what their forms post.

use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, OpenApi, Required};

/// What is asked of a page.
enum Asked {
    /// Something to look at, of this type.
    Look(&'static str),
    /// What a form holds; answered 303, or by the page with what was typed.
    Post,
    /// A form's address, by whoever reloads it; answered 303.
    Reload,
}

const HTML: Asked = Asked::Look("text/html");

/// All of them.
const PAGES: &[(&str, Asked, &str)] = &[
    ("/", HTML, "The quotes, newest first"),
    ("/quotes", Asked::Reload, "To the quotes"),
    ("/quotes", Asked::Post, "Post a quote"),
    ("/quotes/{id}", HTML, "One quote, by its id or its entry"),
    ("/donors", HTML, "The donors"),
    ("/donors", Asked::Post, "Add a donor"),
    ("/donors.csv", Asked::Look("text/csv"), "All donors, oldest first"),
    ("/books", HTML, "The bookstore"),
    ("/books/{id}", HTML, "One title, and what was sold of it"),
    ("/books/{id}/purchase", Asked::Reload, "To the bookstore"),
    ("/books/{id}/purchase", Asked::Post, "Buy a title"),
    ("/orders", HTML, "What the bookstore sold, newest first"),
    ("/tasks", HTML, "The tasks"),
    ("/tasks", Asked::Post, "Add a task"),
    ("/tasks/{id}", HTML, "One task, and what became of it"),
    ("/tasks/{id}", Asked::Post, "Change a task"),
    ("/tasks/{id}/delete", Asked::Reload, "To the tasks"),
    ("/tasks/{id}/delete", Asked::Post, "Delete a task"),
    ("/token", HTML, "What this browser may do, and the form that takes a token"),
    ("/token", Asked::Post, "Give a token for a cookie, or an empty one to forget it"),
    ("/cluster", HTML, "Who is there, and who leads"),
    ("/cluster/drill", Asked::Reload, "To the cluster"),
    (
        "/cluster/drill",
        Asked::Post,
        "Kill, pause, silence or revive a node, make it lead, or raise its loss; under `chorus up` alone",
    ),
];

/// Adds them.
pub(super) fn describe(document: &mut OpenApi) {
    for (path, asked, about) in PAGES {
        let (method, kind) = match asked {
            Asked::Look(_) | Asked::Reload => (HttpMethod::Get, "show"),
            Asked::Post => (HttpMethod::Post, "post"),
        };
        let words = path.replace(['{', '}'], "").replace(['/', '.'], "_");
        let mut page = OperationBuilder::new()
            .tag("pages")
            .operation_id(Some(format!("{kind}{words}")))
            .summary(Some(*about));
        if path.contains("{id}") {
            page = page.parameter(
                ParameterBuilder::new()
                    .name("id")
                    .parameter_in(ParameterIn::Path)
                    .required(Required::True)
                    .schema(Some(ObjectBuilder::new().schema_type(Type::String))),
            );
        }
        page = match asked {
            Asked::Look(kind) => page.response("200", text("It", kind)),
            Asked::Reload => page.response("303", Response::new("The page is elsewhere")),
            Asked::Post => page
                .request_body(Some(form()))
                .response("422", text("The form again, with what was typed and what is wrong", "text/html"))
                .response("303", Response::new("It is done")),
        };
        document.paths.add_path_operation(*path, vec![method], page.build());
    }
}

fn text(about: &str, kind: &str) -> Response {
    let text = ObjectBuilder::new().schema_type(Type::String);
    ResponseBuilder::new().description(about).content(kind, Content::new(Some(text))).build()
}

/// The fields of the board's operation, and `id`, which names the request.
fn form() -> utoipa::openapi::request_body::RequestBody {
    let fields = ObjectBuilder::new().property("id", ObjectBuilder::new().schema_type(Type::String));
    RequestBodyBuilder::new()
        .description(Some("The fields of the board's operation, and `id`: the request's key"))
        .content("application/x-www-form-urlencoded", Content::new(Some(fields)))
        .build()
}
