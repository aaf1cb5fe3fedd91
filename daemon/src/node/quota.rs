//! Boards that are full on this node: what may add a record to them is not taken, nor proposed when this node leads. What
//! deletes or changes a record goes on.

use super::driver::Driver;
use super::handle::NoAnswer;
use crate::boards::{Boards, Command, Route};

/// The code of whoever is refused.
pub(super) const CODE: &str = "board_full";

impl Driver {
    /// Why a command is not taken that may add a record to a full board. Nothing has happened.
    pub(super) fn board_full(&self, command: &Command) -> Option<NoAnswer> {
        let detail = self.stores.usage().full(&command.board)?;
        let refused = NoAnswer { code: CODE, detail, retry: None, leader: self.leader_name() };
        may_add(self.boards, command).then_some(refused)
    }

    /// Says what boards keep that have a quota.
    pub(super) fn tell_usage(&self) {
        for kept in self.stores.usage().iter() {
            self.metrics.board(kept.board, kept.rows(), kept.bytes());
        }
    }
}

/// By how the operation is reached: what is done to a record that is there adds none.
fn may_add(boards: Boards, command: &Command) -> bool {
    let board = boards.named(&command.board);
    let operation = board.and_then(|board| board.operation(&command.op, command.v));
    operation.is_some_and(|operation| match operation.route {
        Route::Post | Route::Word | Route::Put => true,
        Route::Patch | Route::Delete | Route::Action => false,
    })
}

#[cfg(test)]
mod tests {
    use chorus_proto::types::RequestId;

    use super::*;

    #[test]
    fn a_full_board_goes_on_with_what_adds_no_record() {
        for board in Boards::all().iter() {
            for operation in board.operations() {
                let command = Command {
                    id: RequestId::try_from("one".to_owned()).unwrap(),
                    board: board.name().to_owned(),
                    op: operation.name.to_owned(),
                    v: operation.v,
                    node: "n1".to_owned(),
                    body: Vec::new(),
                };
                let adds = may_add(Boards::all(), &command);
                let removes = ["delete", "remove", "hide", "unhide"].contains(&operation.name);
                assert!(!(adds && removes), "{}.{}", board.name(), operation.name);
                assert!(adds || operation.route.has_key(), "{}.{}", board.name(), operation.name);
            }
        }
    }
}
