//! Workflows of all items of a group: their steps are those of one item, beside each other.

use super::Workflow;
use super::plan::{Place, Plan, Role, Step, When, step};
use crate::store::groups::Group;
use control_api::PointSelector;
use control_api::agent::JobKind;

/// An item of a group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its number.
    pub(crate) item: i64,
    pub(crate) name: String,
    pub(crate) target: Place,
    /// Its source agent, where there is one that has to do something.
    pub(crate) source: Option<Place>,
    /// Whether it is failed over already, and gets another recovery point.
    pub(crate) failed_over: bool,
}

/// A bookmark that the items of a group are to share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared<'a> {
    /// What its name begins with.
    pub(crate) bookmark: &'a str,
    /// Id of the meeting of the source agents.
    pub(crate) meeting: &'a str,
    pub(crate) application_consistent: bool,
    /// Nobody ordered it.
    pub(crate) regular: bool,
}

impl Member {
    fn at_target(&self, job: impl FnOnce(String) -> JobKind, role: Role) -> Step {
        Step { item: Some(self.item), ..step(&self.target, job(self.name.clone()), role) }
    }

    fn at_source(&self, job: JobKind, role: Role) -> Option<Step> {
        let source = self.source.as_ref()?;
        Some(Step { item: Some(self.item), ..step(source, job, role) })
    }
}

/// These are ordered together.
fn together(steps: impl Iterator<Item = Step>) -> impl Iterator<Item = Step> {
    steps.enumerate().map(|(number, step)| Step { beside: number > 0, ..step })
}

impl Plan {
    /// The source agents of a group set a bookmark at one moment.
    pub(crate) fn group_bookmark(group: &Group, members: &[Member], wanted: &Shared<'_>) -> Plan {
        let Shared { bookmark, meeting, application_consistent, regular } = *wanted;
        let job = || JobKind::GroupBookmark {
            name: bookmark.to_owned(),
            group: group.name.clone(),
            meeting: meeting.to_owned(),
            application_consistent,
        };
        let steps = members.iter().filter_map(|member| member.at_source(job(), Role::Needed));
        let (id, group_name, bookmark) = (group.id, group.name.clone(), bookmark.to_owned());
        let workflow = Workflow::GroupBookmark { group: id, group_name, bookmark, regular };
        of(workflow, members, together(steps).collect())
    }

    /// All items of a group fail over to a bookmark that they share; the number of each member's point goes with it. When
    /// one cannot, those that were not failed over before are taken back.
    pub(crate) fn group_failover(group: &Group, members: &[(Member, u64)], bookmark: &str) -> Plan {
        let over = members.iter().map(|(member, number)| fail_over(member, PointSelector::Number(*number)));
        let steps = together(over);
        let members: Vec<Member> = members.iter().map(|(member, _)| member.clone()).collect();
        let members = members.as_slice();
        let undo = together(take_back(members, 0));
        let (id, group_name, bookmark) = (group.id, group.name.clone(), bookmark.to_owned());
        of(Workflow::GroupFailover { group: id, group_name, bookmark }, members, steps.chain(undo).collect())
    }

    /// Brings all sources of a group to rest, and fails the items over to the bookmarks at the ends of their changes. What
    /// was acknowledged to any writer is in one of them, so together they are one moment: the last one.
    pub(crate) fn group_planned_failover(group: &Group, members: &[Member], bookmark: &str) -> Plan {
        let quiesce = |member: &Member| {
            member.at_source(JobKind::Quiesce { bookmark: bookmark.to_owned() }, Role::Needed)
        };
        let rest = together(members.iter().filter_map(quiesce));
        let point = || PointSelector::Bookmark(bookmark.to_owned());
        let over = together(members.iter().map(|member| fail_over(member, point())));
        let mut steps: Vec<Step> = rest.collect();
        let sources = steps.len();
        steps.extend(over);
        steps.extend(together(take_back(members, sources)));
        let with_source = members.iter().filter(|member| member.source.is_some());
        let free = with_source.enumerate().filter_map(|(step, member)| {
            member.at_source(JobKind::Unquiesce, Role::Undo { step, when: When::DoneOrLeft })
        });
        steps.extend(together(free));
        let (id, group_name, bookmark) = (group.id, group.name.clone(), bookmark.to_owned());
        of(Workflow::GroupPlannedFailover { group: id, group_name, bookmark }, members, steps)
    }

    /// Takes the failover of items of a group back; the source of each one that is back and at rest is let go on.
    pub(crate) fn group_cancel_failover(group: &Group, members: &[Member]) -> Plan {
        let back = |member: &Member| member.at_target(|item| JobKind::CancelFailover { item }, Role::Needed);
        let back = together(members.iter().map(back));
        let free = together(following(members, &JobKind::Unquiesce, false));
        let workflow = Workflow::GroupCancelFailover { group: group.id, group_name: group.name.clone() };
        of(workflow, members, back.chain(free).collect())
    }

    /// Commits the failover of items of a group. What was committed stays so when another one cannot be; the source of each
    /// one that was, where it is known, stops replicating.
    pub(crate) fn group_commit(group: &Group, members: &[Member]) -> Plan {
        let commit = |member: &Member| member.at_target(|item| JobKind::Commit { item }, Role::Needed);
        let commit = together(members.iter().map(commit));
        let stop = together(following(members, &JobKind::StopReplicating, true));
        let workflow = Workflow::GroupCommit { group: group.id, group_name: group.name.clone() };
        of(workflow, members, commit.chain(stop).collect())
    }
}

/// What the source of each member does once the step of the member, which stands at the same place as it, is done.
fn following<'a>(
    members: &'a [Member],
    job: &'a JobKind,
    courtesy: bool,
) -> impl Iterator<Item = Step> + use<'a> {
    let each = members.iter().enumerate();
    each.filter_map(move |(step, member)| member.at_source(job.clone(), Role::Following { step, courtesy }))
}

fn fail_over(member: &Member, point: PointSelector) -> Step {
    member.at_target(|item| JobKind::Failover { item, point }, Role::Needed)
}

/// What undoes the failovers that are the steps from `first` on.
fn take_back(members: &[Member], first: usize) -> impl Iterator<Item = Step> {
    let moved = members.iter().enumerate().filter(|(_, member)| !member.failed_over);
    moved.map(move |(number, member)| {
        let role = Role::Undo { step: first + number, when: When::Done };
        member.at_target(|item| JobKind::CancelFailover { item }, role)
    })
}

/// Listed with the master target that all items of a group are on.
fn of(workflow: Workflow, members: &[Member], steps: Vec<Step>) -> Plan {
    Plan { workflow, host: members.first().map_or(0, |member| member.target.host), steps }
}
