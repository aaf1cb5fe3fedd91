//! `chorus donor import` and `export`: the table as a spreadsheet has it.
//!
//! An import goes by batches, each of which is one entry of the log. Nothing is sent before every line of the file was
//! read and found good. A batch bears an id that follows from what is in it and where it stands in the file: an import
//! that broke off is begun again from the first line, and what is there already is not added twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::controller::Controller;
use super::place::Place;
use super::web::Web;
use super::{Failure, output};
use crate::boards::{Board, Boards, Input, Operation};

/// Rows of one batch at most: what the board takes at once.
const ROWS_MAX: usize = 1_000;
/// A batch's JSON at most: its entry must fit the log's largest, 96 KiB.
const BATCH_BYTES_MAX: usize = 80_000;
/// Batches on their way at once: while some are being applied the next are on their way to the disks. What is applied in one
/// transaction writes each page of the table's indexes once.
const ON_THE_WAY_MAX: usize = 8;
/// The columns, in the order of `Row`.
const COLUMNS: [&str; 4] = ["name", "email", "amount_minor", "currency"];
/// Rows that an export asks for at once.
const PAGE: u64 = 500;

/// Donors: who gave how much
#[derive(Debug, Subcommand)]
pub(super) enum Donor {
    Import(Import),
    Export(Export),
}

/// Add the donors of a CSV file: name, email, amount_minor (cents) and currency, named in its first line
///
/// Nothing is added unless every line is good. An import that broke off can be begun again within 24 hours with the same
/// file: what is there already is not added twice.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The file
    file: PathBuf,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Print all donors as CSV, oldest first
#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    place: Place,
}

/// A line of the file. Other columns, as an export has them, are passed over.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    name: String,
    email: String,
    amount_minor: i64,
    currency: String,
}

/// Rows that become one entry.
#[derive(Debug)]
struct Batch {
    id: String,
    rows: Vec<Value>,
}

impl Donor {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Import(import) => import.run().await,
            Self::Export(export) => export.run().await,
        }
    }
}

impl Import {
    async fn run(self) -> Result<(), Failure> {
        let (board, operation) = importing();
        // The first time only to find what is wrong with it.
        let mut total = 0;
        for read in Batches::open(&self.file)? {
            let (lines, batch) = read?;
            total += check(board, operation, &lines, batch)?;
        }
        let cluster = self.place.find()?;
        let mut controller = Controller::open(&cluster)?;
        let web = Web::find(&cluster, &mut controller).await?;
        let bar = bar(total);
        stream::iter(Batches::open(&self.file)?)
            .map(async |read| send(&web, read?.1).await)
            .buffered(ON_THE_WAY_MAX)
            .try_for_each(async |rows| {
                bar.inc(rows);
                Ok(())
            })
            .await?;
        bar.finish_and_clear();
        if self.json {
            return output::data(&json!({ "imported": total }).to_string());
        }
        output::data(&format!("{total} donors are there"))
    }
}

/// The file in batches, each with the numbers of its lines.
struct Batches {
    path: PathBuf,
    rows: csv::DeserializeRecordsIntoIter<std::fs::File, Row>,
    /// What did not fit into the batch before.
    left: Option<(u64, Value)>,
    number: u64,
}

impl Batches {
    fn open(path: &Path) -> Result<Self, Failure> {
        let reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_path(path);
        let mut reader = reader.map_err(|error| Failure::wrong(format!("{}: {error}", path.display())))?;
        let headers =
            reader.headers().map_err(|error| Failure::wrong(format!("{}: {error}", path.display())))?;
        for needed in COLUMNS {
            if !headers.iter().any(|header| header == needed) {
                let told = format!("{}: the first line names no column '{needed}'", path.display());
                return Err(Failure::wrong(told));
            }
        }
        Ok(Self { path: path.to_owned(), rows: reader.into_deserialize(), left: None, number: 0 })
    }

    fn row(&mut self) -> Option<Result<(u64, Value), Failure>> {
        if let Some(left) = self.left.take() {
            return Some(Ok(left));
        }
        // Where the next row begins.
        let line = self.rows.reader().position().line();
        let row = self.rows.next()?;
        Some(row.map(|row| (line, json!(row))).map_err(|error| self.broken(&error)))
    }

    /// A line that is no row, by its number.
    fn broken(&self, error: &csv::Error) -> Failure {
        let line = error.position().map_or(0, csv::Position::line);
        let what = match error.kind() {
            csv::ErrorKind::Deserialize { err, .. } => match err.field() {
                // A row has the columns in the order in which the program names them only by chance.
                Some(field) => format!("column {}: {}", field + 1, err.kind()),
                None => err.kind().to_string(),
            },
            _ => error.to_string(),
        };
        Failure::wrong(format!("{}, line {line}: {what}", self.path.display()))
    }
}

impl Iterator for Batches {
    type Item = Result<(Vec<u64>, Batch), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut lines, mut rows, mut bytes) = (Vec::new(), Vec::new(), 0);
        while rows.len() < ROWS_MAX {
            match self.row() {
                None => break,
                Some(Err(failure)) => return Some(Err(failure)),
                Some(Ok((line, row))) => {
                    let weight = row.to_string().len();
                    if bytes + weight > BATCH_BYTES_MAX && !rows.is_empty() {
                        self.left = Some((line, row));
                        break;
                    }
                    bytes += weight;
                    lines.push(line);
                    rows.push(row);
                }
            }
        }
        if rows.is_empty() {
            return None;
        }
        self.number += 1;
        let id = batch_id(self.number, &rows);
        Some(Ok((lines, Batch { id, rows })))
    }
}

/// The same batch at the same place has the same id.
fn batch_id(number: u64, rows: &[Value]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_be_bytes());
    for row in rows {
        hasher.update(row.to_string().as_bytes()).update(b"\n");
    }
    format!("import-{}", &hasher.finalize().to_hex()[..40])
}

fn importing() -> (&'static dyn Board, &'static Operation) {
    let board = Boards::all().named("donors").expect("the board of donors is in the list");
    let operation = board.operations().iter().find(|operation| operation.name == "import");
    (board, operation.expect("donors can be imported"))
}

/// What the node would say, by the numbers of the lines; else how many rows the batch has.
fn check(board: &dyn Board, operation: &Operation, lines: &[u64], batch: Batch) -> Result<u64, Failure> {
    let rows = batch.rows.len() as u64;
    let input = Input { body: json!({ "rows": batch.rows }), ..Input::default() };
    let Err(wrong) = board.check(operation, input) else { return Ok(rows) };
    let told = wrong.iter().map(|wrong| {
        // `rows 3: email`
        let place = wrong.field.strip_prefix("rows ").and_then(|rest| rest.split_once(": "));
        match place.and_then(|(row, field)| Some((lines.get(row.parse::<usize>().ok()? - 1)?, field))) {
            Some((line, field)) => format!("line {line}: {field} {}", wrong.detail),
            None => wrong.to_string(),
        }
    });
    Err(Failure::wrong(format!("{}; nothing was added", told.collect::<Vec<_>>().join("; "))))
}

async fn send(web: &Web, batch: Batch) -> Result<u64, Failure> {
    let rows = batch.rows.len() as u64;
    web.write_as(&batch.id, reqwest::Method::POST, "/api/v1/donors/import", &json!({ "rows": batch.rows }))
        .await?;
    Ok(rows)
}

fn bar(total: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} donors, {per_sec}, {eta} left");
    let bar = ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

impl Export {
    async fn run(self) -> Result<(), Failure> {
        let cluster = self.place.find()?;
        let mut controller = Controller::open(&cluster)?;
        let web = Web::find(&cluster, &mut controller).await?;
        output::data(&COLUMNS.join(","))?;
        let mut after = String::new();
        loop {
            let path = format!("/api/v1/donors?sort=oldest&limit={PAGE}&after={after}");
            let page = web.read(&path).await?;
            let rows: Vec<Row> = serde_json::from_value(page["items"].clone())
                .map_err(|error| Failure::refused(format!("the node's rows are no donors: {error}")))?;
            if !rows.is_empty() {
                output::data(lines(&rows).map_err(|error| Failure::refused(error.to_string()))?.trim_end())?;
            }
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut after),
                None => return Ok(()),
            }
        }
    }
}

/// Rows as CSV, without a first line.
fn lines(rows: &[Row]) -> Result<String, csv::Error> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8(bytes).expect("texts and numbers are UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(text: &str) -> Result<Vec<(Vec<u64>, Batch)>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let batches = Batches::open(file.path()).map_err(|failure| failure.to_string())?;
        batches.collect::<Result<Vec<_>, _>>().map_err(|failure| failure.to_string())
    }

    fn file(rows: usize) -> String {
        let rows = (0..rows).map(|n| format!("donor {n},d{n}@example.org,{n},EUR\n"));
        "name,email,amount_minor,currency\n".to_owned() + &rows.collect::<String>()
    }

    #[test]
    fn a_file_becomes_batches_that_fit_an_entry_and_keep_every_line() {
        let made = batches(&file(3_000)).unwrap();
        let rows: Vec<&Value> = made.iter().flat_map(|(_, batch)| &batch.rows).collect();
        assert_eq!(rows.len(), 3_000);
        assert!(rows.iter().enumerate().all(|(n, row)| row["amount_minor"] == n));
        assert_eq!((made[0].0[0], made.last().unwrap().0.last().copied()), (2, Some(3_001)));
        for (_, batch) in &made {
            assert!(json!(batch.rows).to_string().len() < 90_000 && batch.rows.len() <= ROWS_MAX);
        }
        let again = batches(&file(3_000)).unwrap();
        assert!(
            made.iter().zip(&again).all(|((_, one), (_, other))| one.id == other.id),
            "the ids come again"
        );
        let mut ids: Vec<&str> = made.iter().map(|(_, batch)| batch.id.as_str()).collect();
        ids.dedup();
        assert_eq!(ids.len(), made.len());
    }

    #[test]
    fn a_line_that_is_no_donor_is_named() {
        let (board, operation) = importing();
        let text = "name,email,amount_minor,currency\nAda,ada@example.org,5,EUR\nBob,bob@,0,EUR\n";
        let (lines, batch) = batches(text).unwrap().remove(0);
        let told = check(board, operation, &lines, batch).unwrap_err().to_string();
        assert!(told.contains("line 3: email") && told.contains("line 3: amount_minor"), "{told}");
        assert!(!told.contains("line 2"), "{told}");
        let told = batches("name,email,amount_minor,currency\nAda,ada@example.org,five,EUR\n").unwrap_err();
        assert!(told.contains("line 2") && told.contains("column 3"), "{told}");
        let told = batches("name,email,amount_minor,currency\nAda,ada@example.org\n").unwrap_err();
        assert!(told.contains("line 2") || told.contains("line: 2"), "{told}");
        assert!(batches("name,email\n").unwrap_err().contains("amount_minor"));
    }
}
