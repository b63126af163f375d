use StepResult::{Done, Skipped, Unsettled};

use super::*;

const FAILED: StepResult = StepResult::Failed { best_effort: false };
const SHRUGGED: StepResult = StepResult::Failed { best_effort: true };

fn shape() -> Shape {
    Shape {
        steps: 3,
        undo: vec![true, false, false],
        rescue: 1,
        finally: 1,
        on_failure: OnFailure::Stop,
        verifies: true,
        observed: false,
    }
}

fn at(section: Section, index: usize) -> At {
    At::Step(section, index)
}

/// A course whose first acting step has begun.
fn acted(shape: Shape) -> Course {
    let mut course = Course::begin(shape);
    course.acting_step_begins();
    course
}

/// Where the course stands after each of the results.
fn way(mut course: Course, results: &[StepResult]) -> Vec<At> {
    results.iter().map(|result| course.step_ended(*result)).collect()
}

#[test]
fn steps_go_in_order_then_clean_up_then_verify() {
    assert_eq!(
        way(acted(shape()), &[Done, Skipped, SHRUGGED, Done]),
        [at(Section::Steps, 1), at(Section::Steps, 2), at(Section::Finally, 0), At::Verify]
    );
}

#[test]
fn a_run_that_has_not_acted_owes_no_clean_up() {
    assert_eq!(
        way(Course::begin(shape()), &[Done, Done, Done]),
        [at(Section::Steps, 1), at(Section::Steps, 2), At::Verify]
    );
}

#[test]
fn an_empty_playbook_is_done_or_verified() {
    let nothing = Shape { steps: 0, undo: vec![], rescue: 0, finally: 0, ..shape() };
    assert_eq!(Course::begin(nothing.clone()).at(), At::Verify);
    assert_eq!(Course::begin(Shape { verifies: false, ..nothing }).at(), At::Ended(Verdict::Done));
}

#[test]
fn a_failed_step_stops_the_run_and_it_is_not_cured() {
    assert_eq!(
        way(acted(shape()), &[Done, FAILED, Done, Done]),
        [at(Section::Steps, 1), at(Section::Rescue, 0), at(Section::Finally, 0), At::Ended(Verdict::NotCured)]
    );
}

#[test]
fn undoing_goes_backwards_over_what_ended_done() {
    let shape =
        Shape { undo: vec![true, true, true], steps: 4, on_failure: OnFailure::Undo, rescue: 0, finally: 0, ..shape() };
    let mut course = acted(shape.clone());
    for result in [Done, Skipped, Done] {
        course.step_ended(result);
    }
    assert_eq!(
        way(course, &[FAILED, Done, Done]),
        [at(Section::Undo, 2), at(Section::Undo, 0), At::Ended(Verdict::NotCured)]
    );
    let mut course = acted(Shape { rescue: 1, ..shape });
    for result in [Done, Done, FAILED] {
        course.step_ended(result);
    }
    assert_eq!(course.at(), at(Section::Undo, 1));
    assert_eq!(course.step_ended(FAILED), at(Section::Rescue, 0), "what is below a failed undo stays");
}

#[test]
fn an_unsettled_step_is_cleaned_up_after_and_never_cured() {
    assert_eq!(way(acted(shape()), &[Unsettled, Done]), [at(Section::Finally, 0), At::Ended(Verdict::Inconclusive)]);
    let mut course = acted(shape());
    for result in [Done, Done, Done] {
        course.step_ended(result);
    }
    assert_eq!(course.step_ended(Unsettled), At::Ended(Verdict::Inconclusive), "also while cleaning up");
}

#[test]
fn a_failed_clean_up_step_does_not_stop_the_clean_up_nor_the_verdict() {
    let mut course = acted(Shape { steps: 1, finally: 2, ..shape() });
    course.step_ended(Done);
    assert_eq!(course.step_ended(FAILED), at(Section::Finally, 1));
    assert_eq!(course.step_ended(Done), At::Verify);
}

#[test]
fn the_symptom_going_skips_what_is_left() {
    let mut course = Course::begin(shape());
    assert_eq!(course.interrupted(Interrupt::SymptomGone, false), At::Ended(Verdict::WentAway), "nothing was done");

    let mut course = acted(shape());
    assert_eq!(course.interrupted(Interrupt::SymptomGone, true), at(Section::Steps, 0), "the step is let end");
    assert_eq!(course.step_ended(Done), at(Section::Finally, 0));
    assert_eq!(course.step_ended(Done), At::Verify);
    assert_eq!(course.verified(Verified::Clear), At::Ended(Verdict::Cured));
}

#[test]
fn undoing_is_owed_even_when_the_symptom_went() {
    let mut course = acted(Shape { on_failure: OnFailure::Undo, ..shape() });
    course.step_ended(Done);
    assert_eq!(course.step_ended(FAILED), at(Section::Undo, 0));
    assert_eq!(course.interrupted(Interrupt::SymptomGone, false), at(Section::Undo, 0));
    assert_eq!(course.step_ended(Done), at(Section::Finally, 0), "rescue repairs, so it is skipped");
    assert_eq!(course.step_ended(Done), At::Ended(Verdict::NotCured));
}

#[test]
fn undoing_is_owed_also_when_the_symptom_went_before_the_step_failed() {
    for (why, then) in [
        (Interrupt::SymptomGone, at(Section::Undo, 0)),
        (Interrupt::MayNotAct, at(Section::Undo, 0)),
        (Interrupt::Deadline, at(Section::Finally, 0)),
        (Interrupt::Cancelled, at(Section::Finally, 0)),
    ] {
        let mut course = acted(Shape { on_failure: OnFailure::Undo, ..shape() });
        course.step_ended(Done);
        course.interrupted(why, true);
        assert_eq!(course.step_ended(FAILED), then, "{why:?}");
    }
    let mut course = acted(Shape { on_failure: OnFailure::Undo, ..shape() });
    course.step_ended(Done);
    course.interrupted(Interrupt::SymptomGone, true);
    assert_eq!(
        way(course, &[FAILED, Done, Done]),
        [at(Section::Undo, 0), at(Section::Finally, 0), At::Ended(Verdict::NotCured)]
    );
}

#[test]
fn safety_cleanup_runs_however_the_run_ends() {
    for (why, verdict) in [
        (Interrupt::Cancelled, At::Ended(Verdict::Cancelled)),
        (Interrupt::Deadline, At::Ended(Verdict::Inconclusive)),
        (Interrupt::MayNotAct, At::Verify),
        (Interrupt::SymptomGone, At::Verify),
    ] {
        let mut course = acted(shape());
        course.step_ended(Done);
        assert_eq!(course.interrupted(why, false), at(Section::Finally, 0), "{why:?}");
        assert_eq!(course.interrupted(why, false), at(Section::Finally, 0), "{why:?} again does not skip it");
        assert_eq!(course.step_ended(Done), verdict, "{why:?}");
    }
}

#[test]
fn what_interrupts_before_the_first_act_ends_the_run_there() {
    for (why, verdict) in [
        (Interrupt::Cancelled, Verdict::Cancelled),
        (Interrupt::Deadline, Verdict::Inconclusive),
        (Interrupt::MayNotAct, Verdict::Refused),
        (Interrupt::SymptomGone, Verdict::WentAway),
    ] {
        assert_eq!(Course::begin(shape()).interrupted(why, false), At::Ended(verdict), "{why:?}");
    }
}

#[test]
fn a_cancel_outweighs_what_came_before_it() {
    let mut course = acted(shape());
    course.interrupted(Interrupt::SymptomGone, true);
    course.interrupted(Interrupt::Cancelled, true);
    course.interrupted(Interrupt::SymptomGone, true);
    assert_eq!(way(course, &[Done, Done]), [at(Section::Finally, 0), At::Ended(Verdict::Cancelled)]);
}

#[test]
fn verification_ends_early_only_by_cancel_or_deadline() {
    let mut course = Course::begin(Shape { steps: 0, ..shape() });
    assert_eq!(course.interrupted(Interrupt::SymptomGone, false), At::Verify);
    assert_eq!(course.interrupted(Interrupt::Deadline, false), At::Ended(Verdict::Inconclusive));
}

#[test]
fn an_observed_run_is_refused_whatever_comes_of_it() {
    for verified in [Verified::Clear, Verified::StillThere, Verified::NotKnown] {
        let mut course = Course::begin(Shape { steps: 0, observed: true, ..shape() });
        assert_eq!(course.verified(verified), At::Ended(Verdict::Refused));
    }
    let mut course = Course::begin(Shape { observed: true, rescue: 0, ..shape() });
    assert_eq!(course.step_ended(FAILED), At::Ended(Verdict::Refused));
}

#[test]
fn nothing_moves_a_run_that_has_ended() {
    let mut course = acted(shape());
    assert_eq!(course.broken_off(), At::Ended(Verdict::Inconclusive));
    course.step_ended(Done);
    course.interrupted(Interrupt::Cancelled, false);
    course.verified(Verified::Clear);
    assert_eq!(course.at(), At::Ended(Verdict::Inconclusive));
}

/// Every way through every small playbook: it ends, moves forward only, and holds what the module promises.
#[test]
fn every_course_ends_and_keeps_its_promises() {
    let results = [Done, Skipped, FAILED, SHRUGGED, Unsettled];
    let interrupts = [
        None,
        Some(Interrupt::SymptomGone),
        Some(Interrupt::MayNotAct),
        Some(Interrupt::Deadline),
        Some(Interrupt::Cancelled),
    ];
    for on_failure in [OnFailure::Stop, OnFailure::Undo] {
        for code in 0..(5_usize.pow(4) * 25) {
            let mut course = acted(Shape { steps: 2, undo: vec![true, true], on_failure, ..shape() });
            let (mut rest, mut cleaned, mut failed, mut doubted) = (code, false, false, false);
            let (mut owed, mut undone) = (false, false);
            let mut digit = || {
                let digit = rest % 5;
                rest /= 5;
                digit
            };
            let mut before = (Section::Steps, 0);
            while let At::Step(section, index) = course.at() {
                assert!(section > before.0 || section == before.0 && (section == Section::Undo || index >= before.1));
                before = (section, index);
                cleaned |= section == Section::Finally;
                if let Some(why) = interrupts[digit()] {
                    course.interrupted(why, true);
                }
                let result = results[digit()];
                undone |= section == Section::Undo;
                // the first of the two was done, the second has failed, and nothing has ended the run meanwhile
                owed |= on_failure == OnFailure::Undo
                    && (section, index, result) == (Section::Steps, 1, FAILED)
                    && course.undoable == [0]
                    && course.interrupt() < Some(Interrupt::Deadline);
                failed |= section == Section::Steps && result == FAILED;
                doubted |= result == Unsettled;
                course.step_ended(result);
            }
            course.verified(Verified::Clear);
            let At::Ended(verdict) = course.at() else { panic!("it has not ended") };
            assert!(cleaned, "finally was not gone through");
            assert!(undone || !owed, "{code}: what was done is not undone");
            let stopped = course.interrupt() >= Some(Interrupt::Deadline);
            assert!(verdict != Verdict::Cured || !(failed || doubted || stopped), "{code}: cured in spite of it");
        }
    }
}
