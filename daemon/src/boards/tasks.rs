//! Tasks: what is to do, who does it, and which entries of the log made each task what it is.

mod history;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params, params_from_iter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fields::Fields;
use super::version::IfMatch;
use super::{
    ApplyError, Board, Change, Context, Effect, Field, Input, Invalid, Kind, ListQuery, Listed, Operation,
    Route, Shapes, json_of,
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

const ADD: &str = "add";
const CHANGE: &str = "change";
const DELETE: &str = "delete";
const HISTORY: &str = "history";
const COLUMNS: &str = "id, title, status, created_by, node, assignee, at_ms, version";

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

impl Board for Tasks {
    fn name(&self) -> &'static str {
        "tasks"
    }

    fn word(&self) -> &'static str {
        "task"
    }

    fn about(&self) -> &'static str {
        "Tasks: what is to do, and who does it"
    }

    fn columns(&self) -> &'static [&'static str] {
        &["id", "status", "title", "assignee", "created_by", "node"]
    }

    fn operations(&self) -> &'static [Operation] {
        const EDITS: [Field; 4] = [TITLE.or_not(), STATUS, ASSIGNEE, VERSION];
        &[
            Operation {
                name: ADD,
                v: 1,
                since: 1,
                route: Route::Post,
                about: "Add a task",
                fields: &[TITLE, CREATED_BY, STATUS, ASSIGNEE],
            },
            Operation {
                name: CHANGE,
                v: 1,
                since: 1,
                route: Route::Patch,
                about: "Change a task",
                fields: &EDITS,
            },
            Operation {
                name: DELETE,
                v: 1,
                since: 1,
                route: Route::Delete,
                about: "Delete a task",
                fields: &[],
            },
        ]
    }

    fn filters(&self) -> &'static [Field] {
        &[STATUS, ASSIGNEE, NODE]
    }

    fn parts(&self) -> &'static [&'static str] {
        &[HISTORY]
    }

    fn shapes(&self) -> Shapes {
        Shapes::of::<Task>().with_part::<history::Entry>(HISTORY)
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS nodes (
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
         ) WITHOUT ROWID;"
    }

    fn check(&self, operation: &Operation, input: Input) -> Result<Vec<u8>, Vec<Invalid>> {
        let mut fields = Fields::of(input.body);
        let if_match = IfMatch::of(input.if_match);
        let body = match operation.name {
            ADD => rmp_serde::to_vec_named(&Add {
                title: fields.text(&TITLE),
                status: fields.optional_text(&STATUS).unwrap_or_else(|| STATUSES[0].to_owned()),
                created_by: fields.text(&CREATED_BY),
                assignee: fields.optional_text(&ASSIGNEE).unwrap_or_default(),
            }),
            CHANGE => {
                let version = fields.optional_whole(&VERSION).map(i64::cast_unsigned);
                let edit = Edit {
                    task: fields.whole_key(input.key.as_deref()),
                    title: fields.optional_text(&TITLE.or_not()),
                    status: fields.optional_text(&STATUS),
                    assignee: fields.optional_text(&ASSIGNEE),
                    if_match: if_match.or(version.map(IfMatch::Index)),
                };
                fields.rule("body", edit.is_empty().then(|| "changes nothing".to_owned()));
                rmp_serde::to_vec_named(&edit)
            }
            _ => rmp_serde::to_vec_named(&Delete { task: fields.whole_key(input.key.as_deref()), if_match }),
        };
        fields.finish(body.expect("texts and numbers always have a MessagePack form"))
    }

    fn apply(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        op: &str,
        v: u32,
        body: &[u8],
    ) -> Result<Effect, ApplyError> {
        let decided = match (op, v) {
            (ADD, 1) => rmp_serde::from_slice(body)
                .ok()
                .filter(Add::is_good)
                .map(|add| self.add(transaction, context, add)),
            (CHANGE, 1) => rmp_serde::from_slice(body)
                .ok()
                .filter(Edit::is_good)
                .map(|edit| self.edit(transaction, context, edit)),
            (DELETE, 1) => rmp_serde::from_slice(body)
                .ok()
                .map(|delete: Delete| self.delete(transaction, context, &delete)),
            _ => return Err(ApplyError::unknown(self.name(), op, v)),
        };
        let refused =
            || Ok(Effect::refused(context, "invalid", "this is nothing that can be done to a task"));
        Ok(decided.unwrap_or_else(refused)?)
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
        let Some(after) = query.after.as_deref().map_or(Some(0), |after| after.parse::<i64>().ok()) else {
            return Ok(Listed::wrong("after", "is not the 'next' of a page before"));
        };
        let mut sql = format!("SELECT {COLUMNS} FROM tasks WHERE id > ?1");
        let mut values = vec![rusqlite::types::Value::from(after)];
        for field in self.filters() {
            if let Some(text) = query.filter(field) {
                values.push(text.to_owned().into());
                sql.push_str(&format!(" AND {} = ?{}", field.name, values.len()));
            }
        }
        values.push(query.rows().into());
        sql.push_str(&format!(" ORDER BY id LIMIT ?{}", values.len()));
        let mut tasks = connection
            .prepare_cached(&sql)?
            .query_map(params_from_iter(values), task_of)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let next = query.end_page(&mut tasks).map(|task| task.id.to_string());
        Ok(Listed::Rows(json!({ "items": tasks, "next": next })))
    }

    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        let Ok(id) = key.parse() else { return Ok(None) };
        Ok(task(connection, id)?.as_ref().map(json_of))
    }

    fn part(&self, connection: &Connection, key: &str, part: &str) -> rusqlite::Result<Option<Value>> {
        assert_eq!(part, HISTORY, "a task has one part");
        let Ok(id) = key.parse() else { return Ok(None) };
        let entries = history::of(connection, id)?;
        Ok((!entries.is_empty()).then(|| json!({ "items": entries })))
    }

    fn describe(&self, op: &str, _: u32, body: &[u8]) -> (Option<String>, Option<String>) {
        match op {
            ADD => match rmp_serde::from_slice::<Add>(body) {
                Ok(add) => (Some(add.title), Some(add.status)),
                Err(_) => (None, None),
            },
            CHANGE => match rmp_serde::from_slice::<Edit>(body) {
                Ok(edit) => (Some(edit.task.to_string()), edit.status.or(edit.assignee).or(edit.title)),
                Err(_) => (None, None),
            },
            _ => (rmp_serde::from_slice::<Delete>(body).ok().map(|delete| delete.task.to_string()), None),
        }
    }
}

impl Tasks {
    fn add(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        add: Add,
    ) -> rusqlite::Result<Effect> {
        transaction
            .prepare_cached("INSERT INTO nodes (name, idx) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING")?
            .execute(params![context.node, context.index.cast_signed()])?;
        let Add { title, status, created_by, assignee } = add;
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
        self.became(transaction, context, &task, Change::Created, &change)
    }

    fn edit(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        edit: Edit,
    ) -> rusqlite::Result<Effect> {
        let Some(mut task) = task(transaction, edit.task)? else { return Ok(no_task(context, edit.task)) };
        if let Some(refusal) = IfMatch::refusal(edit.if_match, context, Some(task.version)) {
            return Ok(refusal);
        }
        let mut change = serde_json::Map::new();
        for (name, there, wanted) in [
            (TITLE.name, &mut task.title, edit.title),
            (STATUS.name, &mut task.status, edit.status),
            (ASSIGNEE.name, &mut task.assignee, edit.assignee),
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
        self.became(transaction, context, &task, Change::Changed, &Value::Object(change))
    }

    fn delete(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        delete: &Delete,
    ) -> rusqlite::Result<Effect> {
        let Some(mut task) = task(transaction, delete.task)? else {
            return Ok(no_task(context, delete.task));
        };
        if let Some(refusal) = IfMatch::refusal(delete.if_match, context, Some(task.version)) {
            return Ok(refusal);
        }
        transaction.prepare_cached("DELETE FROM tasks WHERE id = ?1")?.execute([task.id])?;
        task.version = context.index;
        self.became(transaction, context, &task, Change::Deleted, &json!({}))
    }

    fn became(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        task: &Task,
        kind: Change,
        change: &Value,
    ) -> rusqlite::Result<Effect> {
        history::keep(transaction, context, task.id, kind, change)?;
        Ok(Effect::done(context, self.name(), &task.id.to_string(), kind, json_of(task)))
    }
}

impl Add {
    fn is_good(&self) -> bool {
        let texts = [
            (&TITLE, &self.title),
            (&STATUS, &self.status),
            (&CREATED_BY, &self.created_by),
            (&ASSIGNEE, &self.assignee),
        ];
        texts.into_iter().all(|(field, text)| field.broken_text(text).is_none())
    }
}

impl Edit {
    fn is_empty(&self) -> bool {
        self.title.is_none() && self.status.is_none() && self.assignee.is_none()
    }

    fn is_good(&self) -> bool {
        let texts = [(&TITLE, &self.title), (&STATUS, &self.status), (&ASSIGNEE, &self.assignee)];
        !self.is_empty()
            && texts
                .into_iter()
                .all(|(field, text)| text.as_ref().is_none_or(|text| field.broken_text(text).is_none()))
    }
}

fn no_task(context: &Context<'_>, id: i64) -> Effect {
    Effect::refused(context, "not_found", format!("there is no task {id}"))
}

fn task(connection: &Connection, id: i64) -> rusqlite::Result<Option<Task>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM tasks WHERE id = ?1"))?
        .query_row([id], task_of)
        .optional()
}

fn task_of(row: &Row<'_>) -> rusqlite::Result<Task> {
    Ok(Task {
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
