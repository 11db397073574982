use super::*;

fn report(nodes: &str) -> Report {
    Report::parse(&format!("[{{\"SpecReports\": [{nodes}]}}]")).unwrap()
}

fn skips() -> Skips {
    let path = std::env::temp_dir().join(format!("pwt-skips-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::write(
        &path,
        "[[skip]]\nspec = 'AppArmor'\nreason = 'disabled'\nwhy = 'host'\n[[left_out]]\nspec = 'bench'\nwhy = 'x'\n",
    )
    .unwrap();
    let skips = Skips::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    skips
}

fn node(text: &str, state: &str, message: &str) -> String {
    format!(
        "{{\"ContainerHierarchyTexts\": [\"[k8s.io] X\"], \"LeafNodeType\": \"It\", \"LeafNodeText\": \"{text}\", \
         \"State\": \"{state}\", \"Failure\": {{\"Message\": \"{message}\"}}}}"
    )
}

#[test]
fn only_what_is_named_may_be_missing() {
    let nodes = [
        node("runs", "passed", ""),
        node("AppArmor a", "skipped", "it is disabled"),
        node("AppArmor b", "skipped", "another reason"),
        node("bench", "skipped", ""),
        node("forgotten", "skipped", ""),
        node("bad", "failed", "no"),
        node("worse", "panicked", "no"),
    ];
    let report = report(&nodes.join(","));
    let faults = report.faults(&skips(), Chosen::All, AtLimit::Fail);
    assert_eq!(faults.len(), 4, "{faults:?}");
    for (fault, part) in faults.iter().zip(["AppArmor b", "forgotten", "bad", "worse"]) {
        assert!(fault.contains(part), "{fault}");
    }
    assert_eq!(report.faults(&skips(), Chosen::Some, AtLimit::Fail).len(), 3);
    assert_eq!(report.counts(), "FAIL! -- 1 Passed | 2 Failed | 0 Pending | 4 Skipped");
}

#[test]
fn a_run_of_nothing_is_a_fault() {
    assert_eq!(report(&node("bench", "skipped", "")).faults(&skips(), Chosen::All, AtLimit::Fail), ["no spec passed"]);
    assert!(Report::parse("[{\"SpecReports\": null}]").is_err());
    assert!(Report::parse("{}").is_err());
}

#[test]
fn a_failed_node_of_the_suite_is_a_fault() {
    let nodes = "{\"LeafNodeType\": \"BeforeSuite\", \"State\": \"failed\", \"Failure\": {\"Message\": \"no daemon\"}}";
    assert_eq!(report(nodes).faults(&skips(), Chosen::All, AtLimit::Fail).len(), 2);
}

#[test]
fn what_the_limit_cuts_off_is_not_failed_where_that_was_said() {
    let nodes = |seconds: u64| {
        let cut = node("slow", "timedout", CUT_SPEC).replacen('{', &format!("{{\"RunTime\": {seconds}000000000, "), 1);
        [node("runs", "passed", ""), cut, node("never", "skipped", "")].join(",")
    };
    let report = |seconds, reasons: &str| {
        let specs = nodes(seconds);
        Report::parse(&format!("[{{\"SpecReports\": [{specs}], \"SpecialSuiteFailureReasons\": [{reasons}]}}]"))
            .unwrap()
    };
    let reasons = "\"Suite Timeout Elapsed\"";
    let faults = |seconds, reasons, at_limit| report(seconds, reasons).faults(&skips(), Chosen::All, at_limit).len();
    assert_eq!(faults(20, reasons, AtLimit::Leave), 0);
    assert_eq!(report(20, reasons).counts(), "SUCCESS! -- 1 Passed | 0 Failed | 0 Pending | 2 Skipped");
    assert_eq!(faults(20, reasons, AtLimit::Fail), 2);
    assert_eq!(faults(20, "", AtLimit::Leave), 2, "the run went on after that");
    assert_eq!(faults(LONGEST_SPEC_SECONDS, reasons, AtLimit::Leave), 1, "it hangs");
}
