//! Checks a JSON document against a JSON schema, as far as the published schemas use it: `type`, `properties`,
//! `required`, `items`, `enum`, `const`, `minimum`, `$ref` to `$defs`. Only compiled for tests.

use serde_json::Value;

/// Everything in which the document is not what the schema says.
pub fn violations(schema: &Value, document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, document, "$", &mut found);
    found
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let definition = name.strip_prefix("#/$defs/").map(|name| &root["$defs"][name]);
        let definition = definition.filter(|definition| definition.is_object());
        return check(root, definition.unwrap_or_else(|| panic!("no {name}")), value, at, found);
    }
    for keyword in schema.as_object().expect("a schema is an object").keys() {
        let known = [
            "$schema",
            "$id",
            "$defs",
            "title",
            "description",
            "type",
            "properties",
            "required",
            "items",
            "enum",
            "const",
            "minimum",
        ];
        assert!(known.contains(&keyword.as_str()), "{at}: this checker doesn't know {keyword}");
    }
    let mut types = schema["type"].as_array().cloned().unwrap_or_default();
    types.extend(schema["type"].as_str().map(Value::from));
    if !types.is_empty() && !types.iter().any(|kind| is_of_type(value, kind.as_str().unwrap_or_default())) {
        found.push(format!("{at}: {value} is not {}", schema["type"]));
        return;
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        found.push(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        found.push(format!("{at}: {value} is not {}", schema["const"]));
    }
    if schema["minimum"].as_f64().is_some_and(|least| value.as_f64().is_some_and(|number| number < least)) {
        found.push(format!("{at}: {value} is too small"));
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        if schema["items"].is_object() {
            check(root, &schema["items"], item, &format!("{at}[{i}]"), found);
        }
    }
    let Some(object) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            found.push(format!("{at}: no {name}"));
        }
    }
    for (name, item) in object {
        match &schema["properties"][name] {
            // Readers allow for new fields, but each field that is written has to be published.
            Value::Null if schema["properties"].is_object() => {
                found.push(format!("{at}: {name} is not published"));
            }
            Value::Null => {}
            property => check(root, property, item, &format!("{at}.{name}"), found),
        }
    }
}

fn is_of_type(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}
