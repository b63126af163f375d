use super::*;
use crate::posted::MAX_POSTED;
use selfheal_model::PostedAlert;

fn alert(pod: usize, over: bool) -> PostedAlert {
    let pod = pod.to_string();
    PostedAlert {
        labels: [("alertname", "PodDown"), ("pod", pod.as_str())].into_iter().collect(),
        annotations: Labels::default(),
        starts_at: None,
        ends_at: over.then_some(at(0)),
        generator_url: String::new(),
    }
}

#[test]
fn beyond_the_limit_what_is_over_makes_room_and_what_stands_does_not() {
    let mut bench = Bench::of(vec![]);
    let post = |bench: &mut Bench, seconds, alerts: Vec<PostedAlert>| {
        bench.turn(seconds, |detect, now, out, _| detect.posted(now, alerts, out));
        bench.detect.figures().refused.too_many_posted
    };
    assert_eq!(post(&mut bench, 1, (0..MAX_POSTED).map(|pod| alert(pod, false)).collect()), 0);
    assert_eq!(post(&mut bench, 2, vec![alert(MAX_POSTED, false)]), 1, "all of them stand");
    assert_eq!(post(&mut bench, 3, vec![alert(7, false)]), 1, "one that is known is no new one");
    assert_eq!(post(&mut bench, 4, vec![alert(7, true), alert(MAX_POSTED, false)]), 1);
    assert_eq!(post(&mut bench, 5, vec![alert(7, false)]), 2, "it was forgotten for another");
}
