//! The routes of a board, from its trait: what `router` makes routes of, this makes descriptions of.

use utoipa::openapi::path::{
    HttpMethod, Operation as Described, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Required};

use super::common;
use crate::boards::{Board, Field, KeyShape, Kind, Operation, Route, Shapes};

/// Adds a board's routes and the schemas that they name.
pub(super) fn describe(board: &'static dyn Board, document: &mut OpenApi) {
    let shapes = board.shapes();
    let components = document.components.get_or_insert_default();
    components.schemas.extend(shapes.named.clone());
    let tag = TagBuilder::new().name(board.name()).description(Some(board.about())).build();
    document.tags.get_or_insert_default().push(tag);
    let path = format!("/api/v1/{}", board.name());
    let row_path = format!("{path}/{{key}}");
    let paths = &mut document.paths;
    paths.add_path_operation(&path, vec![HttpMethod::Get], list(board, &shapes));
    paths.add_path_operation(&row_path, vec![HttpMethod::Get], find(board, &shapes));
    for (part, schema) in &shapes.parts {
        let described = read(board, part, &format!("The {part} of one row"))
            .parameter(key(board))
            .response("200", json("It", schema.clone()))
            .build();
        paths.add_path_operation(format!("{row_path}/{part}"), vec![HttpMethod::Get], described);
    }
    for operation in board.operations() {
        let path = match operation.route {
            Route::Post => path.clone(),
            Route::Word => format!("{path}/{}", operation.name),
            Route::Put | Route::Patch | Route::Delete => row_path.clone(),
            Route::Action => format!("{row_path}/{}", operation.name),
        };
        let method = match operation.route {
            Route::Post | Route::Word | Route::Action => HttpMethod::Post,
            Route::Put => HttpMethod::Put,
            Route::Patch => HttpMethod::Patch,
            Route::Delete => HttpMethod::Delete,
        };
        paths.add_path_operation(path, vec![method], change(board, operation));
    }
}

fn read(board: &dyn Board, what: &str, about: &str) -> OperationBuilder {
    OperationBuilder::new()
        .tag(board.name())
        .operation_id(Some(format!("{}_{what}", board.name())))
        .summary(Some(about))
}

fn list(board: &dyn Board, shapes: &Shapes) -> Described {
    let number = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    let described = read(board, "list", board.about()).parameter_ref(cache_control());
    let mut described = described.parameter(query(
        "limit",
        "At most so many rows [default: 50]",
        number().minimum(Some(1)).maximum(Some(500)),
    ));
    described = if shapes.by_seq {
        described.parameter(query(
            "before",
            "Rows with a smaller seq: the `next` of the page before",
            number(),
        ))
    } else {
        let text = ObjectBuilder::new().schema_type(Type::String);
        described.parameter(query("after", "What follows the page before: its `next`", text))
    };
    for filter in board.filters() {
        described = described.parameter(query(filter.name, filter.about, schema_of(filter)));
    }
    let seq = ObjectBuilder::new().schema_type(Type::Integer).description(Some("The index of this state"));
    let rows = Schema::from(ArrayBuilder::new().items(shapes.row.clone()));
    let mut page = ObjectBuilder::new()
        .property("seq", seq)
        .required("seq")
        .property(board.rows(), rows)
        .required(board.rows())
        .property("next", shapes.next.clone())
        .required("next");
    for (name, schema) in &shapes.beside {
        page = page.property(*name, schema.clone()).required(*name);
    }
    let rows =
        header(json("Rows, and where the next page begins", Schema::from(page).into()), "Chorus-Cache");
    described.response("200", rows).build()
}

fn find(board: &dyn Board, shapes: &Shapes) -> Described {
    let found = header(header(json("It", shapes.found.clone()), "ETag"), "Chorus-Cache");
    let described = read(board, "find", "One row").parameter(key(board)).parameter_ref(cache_control());
    described.response("200", found).build()
}

fn cache_control() -> Ref {
    Ref::new(format!("#/components/parameters/{}", common::CACHE_CONTROL))
}

fn change(board: &dyn Board, operation: &Operation) -> Described {
    let mut described = read(board, operation.name, operation.about);
    if operation.route.has_key() {
        let if_match = Ref::new("#/components/parameters/If-Match");
        described = described.parameter(key(board)).parameter_ref(if_match);
    }
    if !matches!(operation.route, Route::Delete) {
        let required = operation.fields.iter().any(|field| field.required);
        let body = RequestBodyBuilder::new()
            .content("application/json", Content::new(Some(object(operation.fields))))
            .required(Some(if required { Required::True } else { Required::False }));
        described = described.request_body(Some(body.build()));
    }
    let done = || header(json("Done, on a majority of the disks", done()), "Idempotency-Replayed");
    match operation.route {
        Route::Post | Route::Put => described.response("201", header(done(), "Location")),
        Route::Patch | Route::Delete => described.response("200", done()),
        // What an action makes is a row of another board.
        Route::Word | Route::Action => described.response("200", done()).response("201", done()),
    }
    .build()
}

fn done() -> RefOr<Schema> {
    Ref::from_schema_name("Done").into()
}

fn key(board: &dyn Board) -> Parameter {
    let about = match board.key_shape() {
        KeyShape::Segment => "The row's key".to_owned(),
        KeyShape::Path => "The row's key: all that follows, slashes too".to_owned(),
    };
    let text = ObjectBuilder::new().schema_type(Type::String);
    ParameterBuilder::new()
        .name("key")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(about))
        .schema(Some(text))
        .build()
}

fn query(name: &str, about: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(schema))
        .build()
}

fn json(about: &str, schema: RefOr<Schema>) -> Response {
    ResponseBuilder::new().description(about).content("application/json", Content::new(Some(schema))).build()
}

fn header(mut response: Response, name: &str) -> Response {
    let header = RefOr::Ref(Ref::new(format!("#/components/headers/{name}")));
    response.headers.insert(name.to_owned(), header);
    response
}

fn object(fields: &[Field]) -> Schema {
    let object = fields.iter().fold(ObjectBuilder::new(), |object, field| {
        let object = object.property(field.name, schema_of(field));
        if field.required { object.required(field.name) } else { object }
    });
    object.into()
}

fn schema_of(field: &Field) -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String).description(Some(field.about));
    match field.kind {
        Kind::Text { chars_min, chars_max, .. } => {
            text().min_length(Some(chars_min)).max_length(Some(chars_max)).into()
        }
        // No text has more characters than bytes.
        Kind::Blob { bytes_max } => text().max_length(Some(bytes_max)).into(),
        Kind::Choice(words) => text().enum_values(Some(words.iter().copied())).into(),
        Kind::Whole { min, max } => ObjectBuilder::new()
            .schema_type(Type::Integer)
            .description(Some(field.about))
            .minimum(Some(min))
            .maximum(Some(max))
            .into(),
        Kind::Rows { rows_max, fields } => ArrayBuilder::new()
            .items(RefOr::T(object(fields)))
            .description(Some(field.about))
            .min_items(Some(1))
            .max_items(Some(rows_max))
            .into(),
    }
}
