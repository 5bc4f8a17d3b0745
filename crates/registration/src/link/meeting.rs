//! A job's own conversation with the configuration server, about a meeting with other hosts.

use super::Shared;
use super::line::Line;
use crate::error::{Error, Result};
use crate::server::Failure;
use control_api::agent::{MEET_PATH, MeetReply, MeetRequest, MeetStage};
use control_api::registration::Hex;
use std::sync::Arc;

/// A meeting, as one of its members sees it. Its connection is its own and is kept, so that what has to be quick waits for
/// no handshake.
pub struct Meeting {
    shared: Arc<Shared>,
    line: Line,
    /// Of the configuration server that ordered the job.
    authority: Option<Hex>,
    id: String,
}

impl Meeting {
    pub(super) fn new(shared: &Arc<Shared>, authority: Option<Hex>, id: &str) -> Meeting {
        let (shared, line) = (shared.clone(), Line::new(&shared.hub));
        Meeting { shared, line, authority, id: id.to_owned() }
    }

    /// Says where this host is, and waits until the others are there too, as long as the server lets it wait at this stage
    /// ([`MeetStage::longest`]). Where all have gathered nothing is at rest, so a server that is slow may take 20 s longer, and
    /// is asked again when the connection has broken; at any other stage it is given up after 2 s more.
    pub fn meet(&mut self, at: MeetStage) -> Result<MeetReply> {
        let session = self.shared.hub.session_now().filter(|session| {
            // A meeting of one configuration server is none of another's.
            self.authority.as_ref() == Some(&session.registration.authority)
        });
        let Some(session) = session else {
            let why =
                "this machine is not registered any more with the server that ordered the job".to_owned();
            let address = "the configuration server".to_owned();
            return Err(Error::Server { cause: Failure::NotHttp { address, why } });
        };
        let wait = at.longest();
        let request = MeetRequest { host: self.shared.host(&session)?, meeting: self.id.clone(), at };
        match &request.at {
            MeetStage::Gathered { .. } => self.line.post(&session, MEET_PATH, &request, wait),
            _ => self.line.post_in_time(&session, MEET_PATH, &request, wait),
        }
    }
}
