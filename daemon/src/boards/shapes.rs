//! What a board shows, as JSON schemas made from its types: `/openapi.json` takes them from here.

use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};

/// The schemas of a board.
#[derive(Clone)]
pub struct Shapes {
    /// Those that the others name, and their names.
    pub named: Vec<(String, RefOr<Schema>)>,
    /// A row in a list.
    pub row: RefOr<Schema>,
    /// What `find` shows: a row, or something else in its place.
    pub found: RefOr<Schema>,
    /// Lists go on before a seq, else after a text.
    pub by_seq: bool,
    /// The `next` of a list.
    pub next: RefOr<Schema>,
    /// What a list shows besides rows, `next` and `seq`.
    pub beside: Vec<(&'static str, RefOr<Schema>)>,
    /// The parts of a row.
    pub parts: Vec<(&'static str, RefOr<Schema>)>,
}

impl Shapes {
    /// Of a board whose rows are `T`s, and whose lists go on after a text.
    #[must_use]
    pub fn of<T: ToSchema>() -> Self {
        let mut shapes = Self {
            named: Vec::new(),
            row: by_name::<T>(),
            found: by_name::<T>(),
            by_seq: false,
            next: or_null(Type::String),
            beside: Vec::new(),
            parts: Vec::new(),
        };
        shapes.name::<T>();
        shapes
    }

    /// Lists go on before a seq.
    #[must_use]
    pub fn by_seq(self) -> Self {
        Self { by_seq: true, next: or_null(Type::Integer), ..self }
    }

    /// In the place of a row there may be a `T`.
    #[must_use]
    pub fn or_found<T: ToSchema>(mut self) -> Self {
        self.name::<T>();
        let either = OneOfBuilder::new().item(self.found).item(by_name::<T>());
        Self { found: Schema::from(either).into(), ..self }
    }

    /// A list also shows many `T`s under this name.
    #[must_use]
    pub fn with_many<T: ToSchema>(mut self, name: &'static str) -> Self {
        self.name::<T>();
        self.beside.push((name, many::<T>()));
        self
    }

    /// A row has a part whose items are `T`s.
    #[must_use]
    pub fn with_part<T: ToSchema>(mut self, name: &'static str) -> Self {
        self.name::<T>();
        let part = ObjectBuilder::new().property("items", many::<T>()).required("items");
        self.parts.push((name, Schema::from(part).into()));
        self
    }

    fn name<T: ToSchema>(&mut self) {
        T::schemas(&mut self.named);
        self.named.push((T::name().into_owned(), T::schema()));
    }
}

fn by_name<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

fn many<T: ToSchema>() -> RefOr<Schema> {
    Schema::from(Ref::from_schema_name(T::name()).to_array_builder()).into()
}

fn or_null(kind: Type) -> RefOr<Schema> {
    let kinds = SchemaType::from_iter([kind, Type::Null]);
    Schema::from(ObjectBuilder::new().schema_type(kinds)).into()
}
