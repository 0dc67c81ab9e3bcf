use super::*;
use crate::ingest::writes::Ops;

const A: Oid = Oid(1);
const B: Oid = Oid(2);
const AUDIT: Oid = Oid(9);

fn rows(ops: Ops, relation: Oid, count: u64) -> Effect {
    Effect::Rows(Expected { ops, relations: Some(vec![relation]), count })
}

/// Effects of the writes in order; changes as letters (`i`, `u`, `d`) with their relation; the expected owner of each.
fn check(effects: &[Effect], changes: &[(Oid, char)], expected: &[Option<usize>]) {
    let writes: Vec<Write> =
        effects.iter().enumerate().map(|(statement, effect)| Write { statement, effect: effect.clone() }).collect();
    let changes: Vec<(Oid, ChangeOp)> = changes
        .iter()
        .map(|(relation, op)| {
            let op = match op {
                'i' => ChangeOp::Insert,
                'u' => ChangeOp::Update,
                'd' => ChangeOp::Delete,
                _ => ChangeOp::Truncate,
            };
            (*relation, op)
        })
        .collect();
    assert_eq!(assign(&writes, &changes), expected, "{effects:?} {changes:?}");
}

#[test]
fn each_write_gets_the_changes_that_its_command_tag_counts() {
    let (insert_a, update_b) = (rows(Ops::INSERT, A, 2), rows(Ops::UPDATE, B, 1));
    check(&[insert_a.clone(), update_b.clone()], &[(A, 'i'), (A, 'i'), (B, 'u')], &[Some(0), Some(0), Some(1)]);
    check(&[update_b.clone(), insert_a.clone()], &[(B, 'u'), (A, 'i'), (A, 'i')], &[Some(0), Some(1), Some(1)]);
    // Statements of one kind on one relation part their changes by number.
    let one = rows(Ops::UPDATE, A, 1);
    check(&[one.clone(), one.clone(), one], &[(A, 'u'), (A, 'u'), (A, 'u')], &[Some(0), Some(1), Some(2)]);
}

#[test]
fn triggers_and_cascades_belong_to_the_statement_before() {
    let (delete, insert) = (rows(Ops::DELETE, A, 1), rows(Ops::INSERT, A, 1));
    check(
        &[delete.clone(), insert.clone()],
        &[(A, 'd'), (B, 'd'), (B, 'd'), (A, 'i'), (AUDIT, 'i')],
        &[Some(0), Some(0), Some(0), Some(1), Some(1)],
    );
    // A BEFORE trigger of the first one.
    check(&[insert.clone(), delete], &[(AUDIT, 'i'), (A, 'i'), (A, 'd')], &[Some(0), Some(0), Some(1)]);
    check(&[insert], &[(AUDIT, 'i'), (A, 'i'), (B, 'u')], &[Some(0); 3]);
}

#[test]
fn what_does_not_add_up_has_no_statement() {
    let one = rows(Ops::INSERT, A, 1);
    // A trigger inserted into the same relation: whose the middle one is cannot be told.
    check(&[one.clone(), one.clone()], &[(A, 'i'), (A, 'i'), (A, 'i')], &[Some(0), None, Some(1)]);
    // Fewer changes than the command tags count.
    check(&[one.clone(), one.clone()], &[(A, 'i')], &[None]);
    check(std::slice::from_ref(&one), &[(B, 'i')], &[None]);
    check(&[], &[(B, 'i')], &[None]);
    // A procedure between two writes may have made what neither counts.
    check(&[one.clone(), Effect::Perhaps, one.clone()], &[(A, 'i'), (B, 'u'), (A, 'i')], &[Some(0), None, Some(2)]);
    check(&[Effect::Perhaps, Effect::Perhaps], &[(A, 'i')], &[None]);
    check(&[Effect::Perhaps], &[(A, 'i'), (B, 'u')], &[Some(0), Some(0)]);
}
