//! Owns the TypeScript declarations of the exported documents: generated from the committed JSON
//! Schemas, committed themselves, and compared by a test. It never reads the Rust types.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value};

use crate::process::root;

/// Where the declarations lie, beside the page that hands the documents over.
const DECLARATIONS: &str = "assets/page/rollback-lab.d.ts";

const SCHEMAS: [&str; 2] = ["assets/episode.schema.json", "assets/session.schema.json"];

const HEAD: &str = "\
// Declarations of the documents that bevy_rollback_lab hands over, and of how a page gets them.
// Generated from assets/*.schema.json by `cargo xtask types`; do not edit.

";

/// What stands on `window`; the schemas know nothing of pages.
const PAGE: &str = "\
/** `detail` of the event `rollbacklab:error`. */
export interface LabError {
  /** Why there is no match, in words for the person who must act. */
  message: string;
}

/** What `replayEpisode` came to. */
export interface Replayed {
  /** Frames of the file that were played. */
  frames: number;
  /** Rollbacks that ran again; 0 in the canonical history. */
  rollbacks: number;
  /** Frames simulated, those simulated again included. */
  simulated: number;
  /** State hashes of the file that were compared. */
  hashesChecked: number;
  /** The first thing that came out differently; `null` if everything agreed. */
  firstDifference: {
    what: \"initialState\" | \"state\" | \"historyDigest\";
    /** The state before this frame; `null` of the digest. */
    frame: number | null;
    recorded: Hex64;
    /** `null` if the game computes no checksum. */
    replayed: Hex64 | null;
  } | null;
  /** At least one hash was compared, and nothing differed. */
  proven: boolean;
  /** The same in a sentence. */
  message: string;
  /** Time it took, set-up included, in milliseconds. */
  ms: number;
}

declare global {
  interface Window {
    /** The running episode with `episode.isPartial: true`, else the last one; `null` before the first. */
    exportSessionMetrics(): EpisodeDocument | null;
    /** Every episode of this page so far, the running one last. */
    exportSessionMetrics(options: { all: true }): EpisodeDocument[];
    /**
     * Plays an episode headless and compares every state hash; with `asSeen` as its peer saw it,
     * guesses and rollbacks included. Throws where the file is none of this game. On pages whose
     * game calls `web::install_replay`.
     */
    replayEpisode(document: EpisodeDocument | string, options?: { asSeen?: boolean }): Replayed;
  }

  interface WindowEventMap {
    /** An episode's document is complete. */
    \"rollbacklab:episode\": globalThis.CustomEvent<EpisodeDocument>;
    /** The session document changed. */
    \"rollbacklab:session\": globalThis.CustomEvent<SessionDocument>;
    /** The session failed, or could not begin. */
    \"rollbacklab:error\": globalThis.CustomEvent<LabError>;
  }
}
";

/// Writes the declarations anew.
pub fn write(arguments: &[String]) -> Result<(), String> {
    if let Some(unknown) = arguments.first() {
        return Err(format!("`types` has no options, not `{unknown}`"));
    }
    fs::write(root().join(DECLARATIONS), generate()?)
        .map_err(|error| format!("{DECLARATIONS}: {error}"))?;
    println!("{DECLARATIONS}");
    Ok(())
}

fn generate() -> Result<String, String> {
    let mut types: BTreeMap<String, Value> = BTreeMap::new();
    for path in SCHEMAS {
        let text =
            fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))?;
        let mut schema: Value =
            serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
        let defs = schema["$defs"].take();
        let title = text_of(&schema, "title").ok_or(format!("{path} has no title"))?;
        let defs = defs.as_object().cloned().unwrap_or_default();
        for (name, schema) in defs.into_iter().chain([(title.to_owned(), schema)]) {
            // Both documents use some types; they must mean the same.
            if let Some(other) = types.insert(name.clone(), schema.clone())
                && other != schema
            {
                return Err(format!("{name} means two things"));
            }
        }
    }
    let mut out = String::from(HEAD);
    for (name, schema) in &types {
        declare(&mut out, name, schema)?;
        out.push('\n');
    }
    out.push_str(PAGE);
    Ok(out)
}

fn declare(out: &mut String, name: &str, schema: &Value) -> Result<(), String> {
    comment(out, schema, "");
    let Some(properties) = schema["properties"].as_object() else {
        let shape = shape(schema).map_err(|error| format!("{name}: {error}"))?;
        out.push_str(&format!("export type {name} = {shape};\n"));
        return Ok(());
    };
    out.push_str(&format!("export interface {name} {{\n"));
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (field, schema) in properties {
        comment(out, schema, "  ");
        let shape = shape(schema).map_err(|error| format!("{name}.{field}: {error}"))?;
        let optional = if required.contains(&field.as_str()) {
            ""
        } else {
            "?"
        };
        out.push_str(&format!("  {field}{optional}: {shape};\n"));
    }
    out.push_str("}\n");
    Ok(())
}

fn comment(out: &mut String, schema: &Value, indent: &str) {
    let Some(text) = text_of(schema, "description") else {
        return;
    };
    let text = text.replace("*/", "* /");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    if let [line] = lines.as_slice() {
        out.push_str(&format!("{indent}/** {line} */\n"));
        return;
    }
    out.push_str(&format!("{indent}/**\n"));
    for line in lines {
        out.push_str(format!("{indent} * {line}").trim_end());
        out.push('\n');
    }
    out.push_str(&format!("{indent} */\n"));
}

/// The type that a schema describes. What it does not know is an error, never `any`.
fn shape(schema: &Value) -> Result<String, String> {
    let Some(schema) = schema.as_object() else {
        // `true`: whatever the game's input or annotation serializes to.
        return Ok(String::from("unknown"));
    };
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return name
            .strip_prefix("#/$defs/")
            .map(str::to_owned)
            .ok_or(format!("the reference {name} leads nowhere"));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(cases) = schema.get(key).and_then(Value::as_array) {
            return Ok(cases
                .iter()
                .map(shape)
                .collect::<Result<Vec<_>, _>>()?
                .join(" | "));
        }
    }
    if let Some(value) = schema.get("const") {
        return Ok(value.to_string());
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Ok(values
            .iter()
            .map(Value::to_string)
            .collect::<Vec<_>>()
            .join(" | "));
    }
    match schema.get("type") {
        None => Ok(String::from("unknown")),
        Some(Value::String(kind)) => of_kind(kind, schema),
        Some(Value::Array(kinds)) => Ok(kinds
            .iter()
            .filter_map(Value::as_str)
            .map(|kind| of_kind(kind, schema))
            .collect::<Result<Vec<_>, _>>()?
            .join(" | ")),
        Some(other) => Err(format!("the type {other} is not known")),
    }
}

fn of_kind(kind: &str, schema: &Map<String, Value>) -> Result<String, String> {
    match kind {
        "integer" | "number" => Ok(String::from("number")),
        "string" | "boolean" | "null" => Ok(kind.to_owned()),
        "array" => {
            if let Some(items) = schema.get("prefixItems").and_then(Value::as_array) {
                let items = items.iter().map(shape).collect::<Result<Vec<_>, _>>()?;
                return Ok(format!("[{}]", items.join(", ")));
            }
            let item = shape(schema.get("items").unwrap_or(&Value::Bool(true)))?;
            Ok(if item.contains(" | ") {
                format!("({item})[]")
            } else {
                format!("{item}[]")
            })
        }
        "object" => {
            let patterns = schema.get("patternProperties").and_then(Value::as_object);
            let values = patterns
                .and_then(|patterns| patterns.values().next())
                .or(schema.get("additionalProperties"))
                .unwrap_or(&Value::Bool(true));
            Ok(format!("Record<string, {}>", shape(values)?))
        }
        other => Err(format!("the type {other} is not known")),
    }
}

fn text_of<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn committed_declarations_are_the_generated_ones() {
        let committed = fs::read_to_string(root().join(DECLARATIONS)).unwrap_or_default();
        assert!(
            committed == generate().unwrap(),
            "{DECLARATIONS} is not what the schemas say; run `cargo xtask types`"
        );
    }

    #[test]
    fn every_shape_of_the_schemas_has_a_type() {
        let of = |schema: Value| shape(&schema).unwrap();
        assert_eq!(of(json!({"type": ["integer", "null"]})), "number | null");
        assert_eq!(of(json!({"$ref": "#/$defs/Hex64"})), "Hex64");
        assert_eq!(
            of(json!({"anyOf": [{"$ref": "#/$defs/Via"}, {"type": "null"}]})),
            "Via | null"
        );
        assert_eq!(
            of(json!({"type": "array", "items": {"type": ["number", "null"]}})),
            "(number | null)[]"
        );
        assert_eq!(
            of(json!({"type": "array", "prefixItems": [true, {"type": "integer"}]})),
            "[unknown, number]"
        );
        assert_eq!(
            of(json!({"type": "object", "patternProperties": {"^\\d+$": {"type": "integer"}}})),
            "Record<string, number>"
        );
        assert_eq!(of(json!({"const": "human", "type": "string"})), "\"human\"");
        assert!(shape(&json!({"type": "date"})).is_err());
    }
}
