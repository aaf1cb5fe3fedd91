//! Asking the `chorus up` that started this node for a drill.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::problem::Problem;
use crate::drill::{Answer, LINE_BYTES_MAX, Order};

/// A node that is to lead needs an election; that is the longest drill.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(15);

/// Has it carried out; what the supervisor says.
///
/// # Errors
/// `drill_failed` with the reason, also when the supervisor is gone.
pub(super) async fn order(socket: &Path, order: &Order) -> Result<String, Problem> {
    let asked = timeout(ANSWER_WAIT_MAX, ask(socket, order)).await;
    let failed = |detail: String| Problem::new("drill_failed", detail);
    match asked {
        Ok(Ok(Answer { done: true, detail })) => Ok(detail),
        Ok(Ok(Answer { done: false, detail })) => Err(failed(detail)),
        Ok(Err(error)) => Err(failed(format!("`chorus up` does not answer: {error}"))),
        Err(_over) => Err(failed(format!("`chorus up` did not answer in {} s", ANSWER_WAIT_MAX.as_secs()))),
    }
}

async fn ask(socket: &Path, order: &Order) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut line = serde_json::to_string(order)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer)?)
}
