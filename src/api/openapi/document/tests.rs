use super::*;

/// Path and method of everything in the document.
fn described(document: &Value) -> BTreeSet<(String, String)> {
    let of_path = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().keys().filter(|key| !matches!(key.as_str(), "parameters" | "servers"));
        methods.map(|method| (path.clone(), method.to_ascii_uppercase())).collect::<Vec<_>>()
    };
    document["paths"].as_object().unwrap().iter().flat_map(of_path).collect()
}

fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(key, value)| (path.as_str(), key.as_str(), value))
    });
    operations.filter(|(_, key, _)| !matches!(*key, "parameters" | "servers")).collect()
}

#[test]
fn the_document_has_every_route_and_nothing_else() {
    let document = document().unwrap();
    let mut served = BTreeSet::new();
    for route in ROUTES {
        for (spelling, before) in [(Spelling::Docker, ""), (Spelling::Internal, "/internal/v1")] {
            if route.has(spelling) {
                let path = format!("{before}{}", route.template.replace('*', ""));
                match &route.method {
                    Some(method) => drop(served.insert((path, method.to_string()))),
                    None => served.extend(ANY.map(|method| (path.clone(), method.to_owned()))),
                }
            }
        }
    }
    assert_eq!(described(&document), served);
}

#[test]
fn a_refusal_has_its_status_and_its_sentence() {
    let document = document().unwrap();
    let exec = &document["paths"]["/containers/{id}/exec"]["post"];
    let statuses: Vec<&String> = exec["responses"].as_object().unwrap().keys().collect();
    assert_eq!(statuses, ["400", "403", "501"]);
    assert!(exec["summary"].as_str().unwrap().contains("does not support exec"));
    let services = &document["paths"]["/services/{rest}"]["delete"]["responses"];
    assert_eq!(services.as_object().unwrap().keys().collect::<Vec<_>>(), ["400", "403", "503"]);
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document().unwrap();
    let mut used = BTreeSet::new();
    references(&document, &mut used);
    let schemas = document["components"]["schemas"].as_object().unwrap().keys();
    let known: BTreeSet<String> = schemas.map(|name| format!("#/components/schemas/{name}")).collect();
    assert_eq!(used, known);
}

#[test]
fn operations_have_names_of_their_own_and_explained_statuses() {
    let document = document().unwrap();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert_ne!(response["description"], "", "{status} of {method} {path}");
        }
    }
}

#[test]
fn the_spellings_differ_where_the_promises_do() {
    let document = document().unwrap();
    let statuses = |path: &str, method: &str| -> Vec<String> {
        document["paths"][path][method]["responses"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(
        statuses("/containers/{id}/stop", "post"),
        ["204", "304", "400", "403", "404", "408", "409", "413", "500", "503"]
    );
    assert_eq!(
        statuses("/internal/v1/containers/{id}/stop", "post"),
        ["204", "400", "403", "404", "408", "409", "413", "500", "503"]
    );
    assert_eq!(statuses("/internal/v1/containers/{id}/attach", "post"), ["400", "403", "501"]);
    let info = |path: &str| {
        document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"].clone()
    };
    assert_eq!((info("/info"), info("/internal/v1/info")), (reference("Info"), reference("InternalInfo")));
}

#[test]
fn sources_that_do_not_fit_together_are_refused() {
    let without = OPERATIONS.replace("  GET /version:", "  GET /elsewhere:");
    assert!(matches!(document_of(&without), Err(DocumentError::NotDescribed(route)) if route == "GET /version"));
    let spare = format!("{OPERATIONS}\n  GET /nowhere: {{id: Nowhere, tag: System, summary: Nothing.}}\n");
    assert!(matches!(document_of(&spare), Err(DocumentError::NoRoute(routes)) if routes == ["GET /nowhere"]));
    let unexplained = OPERATIONS.replace("query: [condition]", "query: [mood]");
    assert!(matches!(document_of(&unexplained), Err(DocumentError::NoParameter(name)) if name == "mood"));
}
