//! Tasks: what is to do, who does it, and which entries of the log made each task what it is.

mod history;

use rusqlite::{Connection, Row, Transaction, params, params_from_iter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fields::Fields;
use super::version::IfMatch;
use super::{
    ApplyError, Board, Body, Change, Context, Effect, Facts, Field, Kind, ListQuery, Listed, Operation,
    Record, Route, Shapes,
};

const STATUSES: &[&str] = &["todo", "doing", "done"];

const TITLE: Field = Field::required("title", Kind::line(200), "What is to do");
const CREATED_BY: Field = Field::required("created_by", Kind::line(80), "Who says so");
const STATUS: Field = Field::optional("status", Kind::Choice(STATUSES), "How far it is [default: todo]");
const ASSIGNEE: Field =
    Field::optional("assignee", Kind::line_or_nothing(80), "Who does it; empty: nobody yet");
const VERSION: Field = Field::optional(
    "version",
    Kind::Whole { min: 1, max: i64::MAX },
    "The version that is to be changed, as If-Match says it",
);
const NODE: Field = Field::optional("node", Kind::line(80), "Only tasks that this node took");

const NAME: &str = "tasks";
const HISTORY: &str = "history";
const REFUSAL: &str = "this is nothing that can be done to a task";
const EDITS: [Field; 4] = [TITLE.or_not(), STATUS, ASSIGNEE, VERSION];
const FACTS: Facts = Facts {
    operations: &[
        Operation::of::<Add>("add", Route::Post, "Add a task", &[TITLE, CREATED_BY, STATUS, ASSIGNEE]),
        Operation::of::<Edit>("change", Route::Patch, "Change a task", &EDITS),
        Operation::of::<Delete>("delete", Route::Delete, "Delete a task", &[]),
    ],
    columns: &["id", "status", "title", "assignee", "created_by", "node"],
    filters: &[STATUS, ASSIGNEE, NODE],
    parts: &[HISTORY],
    schema: "CREATE TABLE IF NOT EXISTS nodes (
             name TEXT NOT NULL PRIMARY KEY,
             idx INTEGER NOT NULL
         );
         CREATE TABLE IF NOT EXISTS tasks (
             id INTEGER PRIMARY KEY AUTOINCREMENT,
             title TEXT NOT NULL,
             status TEXT NOT NULL,
             created_by TEXT NOT NULL,
             node TEXT NOT NULL REFERENCES nodes (name),
             assignee TEXT NOT NULL,
             at_ms INTEGER NOT NULL,
             version INTEGER NOT NULL
         );
         CREATE TABLE IF NOT EXISTS task_history (
             task INTEGER NOT NULL,
             idx INTEGER NOT NULL,
             term INTEGER NOT NULL,
             at_ms INTEGER NOT NULL,
             node TEXT NOT NULL,
             kind TEXT NOT NULL,
             change TEXT NOT NULL,
             PRIMARY KEY (task, idx)
         ) WITHOUT ROWID;",
    ..Facts::of(NAME, "task", "Tasks: what is to do, and who does it")
};

/// The board.
#[derive(Debug)]
pub(super) struct Tasks;

/// The body of `add`, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Add {
    title: String,
    status: String,
    created_by: String,
    assignee: String,
}

/// The body of `change`, version 1: what is there becomes the row's.
#[derive(Debug, Serialize, Deserialize)]
struct Edit {
    task: i64,
    title: Option<String>,
    status: Option<String>,
    assignee: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    if_match: Option<IfMatch>,
}

/// The body of `delete`, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Delete {
    task: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    if_match: Option<IfMatch>,
}

/// A row, and its form in API and feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
struct Task {
    /// From 1; never used again.
    id: i64,
    title: String,
    /// One of `STATUSES`.
    status: String,
    created_by: String,
    /// The node that took it.
    node: String,
    /// Empty: nobody yet.
    assignee: String,
    /// Log time of its creation in milliseconds of Unix time.
    at_ms: u64,
    /// The entry that made it what it is.
    version: u64,
}

impl Record for Task {
    const SELECT: &'static str =
        "SELECT id, title, status, created_by, node, assignee, at_ms, version FROM tasks";

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            title: row.get(1)?,
            status: row.get(2)?,
            created_by: row.get(3)?,
            node: row.get(4)?,
            assignee: row.get(5)?,
            at_ms: row.get::<_, i64>(6)?.cast_unsigned(),
            version: row.get::<_, i64>(7)?.cast_unsigned(),
        })
    }
}

impl Board for Tasks {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn shapes(&self) -> Shapes {
        Shapes::of::<Task>().with_part::<history::Entry>(HISTORY)
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
        let Some(after) = query.after.as_deref().map_or(Some(0), |after| after.parse::<i64>().ok()) else {
            return Ok(Listed::wrong("after", "is not the 'next' of a page before"));
        };
        let mut which = "WHERE id > ?1".to_owned();
        let mut values = vec![rusqlite::types::Value::from(after)];
        for field in FACTS.filters {
            if let Some(text) = query.filter(field) {
                values.push(text.to_owned().into());
                which.push_str(&format!(" AND {} = ?{}", field.name, values.len()));
            }
        }
        values.push(query.rows().into());
        which.push_str(&format!(" ORDER BY id LIMIT ?{}", values.len()));
        let tasks = Task::many(connection, &which, params_from_iter(values))?;
        Ok(Listed::page(query, tasks, |task| task.id.to_string()))
    }

    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        let Ok(id) = key.parse() else { return Ok(None) };
        Ok(task(connection, id)?.as_ref().map(Record::item))
    }

    fn part(&self, connection: &Connection, key: &str, part: &str) -> rusqlite::Result<Option<Value>> {
        assert_eq!(part, HISTORY, "a task has one part");
        let Ok(id) = key.parse() else { return Ok(None) };
        let entries = history::of(connection, id)?;
        Ok((!entries.is_empty()).then(|| json!({ "items": entries })))
    }
}

impl Body for Add {
    const REFUSAL: &'static str = REFUSAL;

    fn of(fields: &mut Fields) -> Self {
        Self {
            title: fields.text(&TITLE),
            status: fields.optional_text(&STATUS).unwrap_or_else(|| STATUSES[0].to_owned()),
            created_by: fields.text(&CREATED_BY),
            assignee: fields.optional_text(&ASSIGNEE).unwrap_or_default(),
        }
    }

    fn is_good(&self) -> bool {
        TITLE.takes(&self.title)
            && STATUS.takes(&self.status)
            && CREATED_BY.takes(&self.created_by)
            && ASSIGNEE.takes(&self.assignee)
    }

    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        transaction
            .prepare_cached("INSERT INTO nodes (name, idx) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING")?
            .execute(params![context.node, context.index.cast_signed()])?;
        let Self { title, status, created_by, assignee } = self;
        let (at_ms, version) = (context.time_ms, context.index);
        let node = context.node.to_owned();
        let mut task = Task { id: 0, title, status, created_by, node, assignee, at_ms, version };
        transaction
            .prepare_cached(
                "INSERT INTO tasks (title, status, created_by, node, assignee, at_ms, version)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                task.title,
                task.status,
                task.created_by,
                task.node,
                task.assignee,
                at_ms.cast_signed(),
                version.cast_signed()
            ])?;
        task.id = transaction.last_insert_rowid();
        let change = json!({ "title": task.title, "status": task.status, "assignee": task.assignee });
        became(transaction, context, &task, Change::Created, &change)
    }

    fn describe(self) -> (Option<String>, Option<String>) {
        (Some(self.title), Some(self.status))
    }
}

impl Edit {
    fn is_empty(&self) -> bool {
        self.title.is_none() && self.status.is_none() && self.assignee.is_none()
    }
}

impl Body for Edit {
    const REFUSAL: &'static str = REFUSAL;

    fn of(fields: &mut Fields) -> Self {
        let version = fields.optional_whole(&VERSION).map(i64::cast_unsigned);
        let edit = Self {
            task: fields.whole_key(),
            title: fields.optional_text(&TITLE.or_not()),
            status: fields.optional_text(&STATUS),
            assignee: fields.optional_text(&ASSIGNEE),
            if_match: fields.if_match().or(version.map(IfMatch::Index)),
        };
        fields.rule("body", edit.is_empty().then(|| "changes nothing".to_owned()));
        edit
    }

    fn is_good(&self) -> bool {
        !self.is_empty()
            && TITLE.takes(&self.title)
            && STATUS.takes(&self.status)
            && ASSIGNEE.takes(&self.assignee)
    }

    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let Some(mut task) = task(transaction, self.task)? else { return Ok(no_task(context, self.task)) };
        if let Some(refusal) = IfMatch::refusal(self.if_match, context, Some(task.version)) {
            return Ok(refusal);
        }
        let mut change = serde_json::Map::new();
        for (name, there, wanted) in [
            (TITLE.name, &mut task.title, self.title),
            (STATUS.name, &mut task.status, self.status),
            (ASSIGNEE.name, &mut task.assignee, self.assignee),
        ] {
            if let Some(wanted) = wanted.filter(|wanted| wanted != there) {
                change.insert(name.to_owned(), json!({ "from": there, "to": wanted }));
                *there = wanted;
            }
        }
        task.version = context.index;
        transaction
            .prepare_cached(
                "UPDATE tasks SET title = ?2, status = ?3, assignee = ?4, version = ?5 WHERE id = ?1",
            )?
            .execute(params![task.id, task.title, task.status, task.assignee, task.version.cast_signed()])?;
        became(transaction, context, &task, Change::Changed, &Value::Object(change))
    }

    fn describe(self) -> (Option<String>, Option<String>) {
        (Some(self.task.to_string()), self.status.or(self.assignee).or(self.title))
    }
}

impl Body for Delete {
    const REFUSAL: &'static str = REFUSAL;

    fn of(fields: &mut Fields) -> Self {
        Self { task: fields.whole_key(), if_match: fields.if_match() }
    }

    /// A number that is none is not there.
    fn is_good(&self) -> bool {
        true
    }

    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let Some(mut task) = task(transaction, self.task)? else { return Ok(no_task(context, self.task)) };
        if let Some(refusal) = IfMatch::refusal(self.if_match, context, Some(task.version)) {
            return Ok(refusal);
        }
        transaction.prepare_cached("DELETE FROM tasks WHERE id = ?1")?.execute([task.id])?;
        task.version = context.index;
        became(transaction, context, &task, Change::Deleted, &json!({}))
    }

    fn describe(self) -> (Option<String>, Option<String>) {
        (Some(self.task.to_string()), None)
    }
}

fn became(
    transaction: &Transaction<'_>,
    context: &Context<'_>,
    task: &Task,
    kind: Change,
    change: &Value,
) -> Result<Effect, ApplyError> {
    history::keep(transaction, context, task.id, kind, change)?;
    Ok(Effect::done(context, NAME, &task.id.to_string(), kind, task.item()))
}

fn no_task(context: &Context<'_>, id: i64) -> Effect {
    Effect::refused(context, "not_found", format!("there is no task {id}"))
}

fn task(connection: &Connection, id: i64) -> rusqlite::Result<Option<Task>> {
    Task::one(connection, "WHERE id = ?1", [id])
}
