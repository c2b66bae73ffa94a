//! The TypeScript declarations of the exported documents: made from the committed JSON Schemas by
//! json-schema-to-typescript, committed themselves, and compared in CI. The Rust types are not
//! read.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::debian;
use crate::process::{create_folder, output_of, program, root, run, shown, target_folder, works};
use crate::stages::Outcome;

/// Where the declarations lie, beside the page that exports the documents.
const DECLARATIONS: &str = "examples/volley/page/rollback-lab.d.ts";

const SCHEMAS: [&str; 3] = [
    "crates/record/schema/episode.schema.json",
    "crates/record/schema/session.schema.json",
    "crates/record/schema/desync.schema.json",
];

/// The generator, and the formatter whose version decides what its output looks like.
const PACKAGES: [&str; 2] = ["json-schema-to-typescript@16.0.0", "prettier@3.9.6"];
const GENERATOR: &str = "node_modules/json-schema-to-typescript/dist/src/cli.js";
const DEBIAN: [&str; 2] = ["nodejs", "npm"];

/// A name for all documents, which the generator wants; it is not declared.
const ALL: &str = "LabDocument";

const HEAD: &str = "\
// Declarations of the documents that bevy_rollback_lab exports, and of how a page receives them.
// Generated from crates/record/schema by `cargo xtask types`; do not edit.

";

/// What a page finds on `window`, which no schema describes.
const PAGE: &str = include_str!("types/page.d.ts");

/// Writes the declarations anew.
pub(crate) fn write(arguments: &[String]) -> Result<(), String> {
    if let Some(unknown) = arguments.first() {
        return Err(format!("`types` has no options, not `{unknown}`"));
    }
    fs::write(root().join(DECLARATIONS), generate()?)
        .map_err(|error| format!("{DECLARATIONS}: {error}"))?;
    println!("{DECLARATIONS}");
    Ok(())
}

/// The stage `types`.
pub(crate) fn check() -> Outcome {
    if let Err(why) = prepare() {
        return Outcome::NotRun(why);
    }
    generate().and_then(|generated| compare(&generated)).into()
}

fn compare(generated: &str) -> Result<(), String> {
    let committed = fs::read_to_string(root().join(DECLARATIONS)).unwrap_or_default();
    if committed == generated {
        return Ok(());
    }
    let mut lines = committed.lines().zip(generated.lines()).enumerate();
    let (number, other) = lines
        .find(|(_, (committed, generated))| committed != generated)
        .map_or((0, ""), |(number, (_, generated))| (number + 1, generated));
    Err(format!(
        "{DECLARATIONS} is not what the schemas say (line {number} should be `{other}`); run \
         `cargo xtask types`"
    ))
}

/// Installs the generator below the target folder.
pub(crate) fn prepare() -> Result<(), String> {
    installed().map(drop)
}

fn installed() -> Result<PathBuf, String> {
    static NPM: Mutex<()> = Mutex::new(());
    let _one = NPM.lock().unwrap_or_else(PoisonError::into_inner);
    debian::ready_or_installed(&DEBIAN, "no node with npm", || {
        let ready = |name: &str| works(program(name).arg("--version"));
        (ready("node") && ready("npm")).then_some(())
    })?;
    // A folder for each version, so that another one is installed anew.
    let folder = target_folder()?.join("xtask/npm").join(PACKAGES.join("+"));
    let generator = folder.join(GENERATOR);
    if !generator.is_file() {
        create_folder(&folder)?;
        let mut command = program("npm");
        command
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts"])
            .args(["--save-exact", "--prefix"])
            .arg(&folder)
            .args(PACKAGES);
        run(&mut command).map_err(|error| format!("the generator is not installed ({error})"))?;
    }
    Ok(generator)
}

fn generate() -> Result<String, String> {
    let generator = installed()?;
    let schemas = SCHEMAS
        .iter()
        .map(|path| {
            let text = fs::read_to_string(root().join(path));
            let text = text.map_err(|error| format!("{path}: {error}"))?;
            serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))
        })
        .collect::<Result<Vec<Value>, String>>()?;
    let input = target_folder()?.join("xtask/npm/documents.schema.json");
    fs::write(&input, joined(schemas)?.to_string())
        .map_err(|error| format!("{}: {error}", input.display()))?;
    let mut command = program("node");
    command
        .arg(generator)
        .args(["--unknownAny", "--no-additionalProperties"])
        .args(["--bannerComment", "", "--style.printWidth=100", "--input"])
        .arg(&input);
    println!("$ {}", shown(&command));
    let generated = output_of(&mut command)?;
    let all = generated
        .lines()
        .find(|line| line.starts_with(&format!("export type {ALL} = ")))
        .ok_or_else(|| format!("the generator declared no {ALL}"))?;
    let documents = generated.replacen(&format!("{all}\n"), "", 1);
    Ok(format!("{HEAD}{}\n{PAGE}", documents.trim_start()))
}

/// One schema of all documents. Both use some types; they must mean the same.
fn joined(schemas: Vec<Value>) -> Result<Value, String> {
    let mut types: BTreeMap<String, Value> = BTreeMap::new();
    let mut documents = Vec::new();
    for mut schema in schemas {
        let defs = schema["$defs"].take();
        let title = schema["title"].as_str().ok_or("a schema has no title")?;
        let title = title.to_owned();
        documents.push(json!({ "$ref": format!("#/$defs/{title}") }));
        let defs = defs.as_object().cloned().unwrap_or_default();
        for (name, schema) in defs.into_iter().chain([(title, schema)]) {
            if let Some(other) = types.insert(name.clone(), schema.clone())
                && other != schema
            {
                return Err(format!("{name} means two things"));
            }
        }
    }
    let types: Map<String, Value> = types
        .into_iter()
        .map(|(name, mut schema)| {
            understood(&mut schema);
            (name, schema)
        })
        .collect();
    Ok(json!({ "title": ALL, "anyOf": documents, "$defs": types }))
}

/// Rewrites what the generator does not know of JSON Schema 2020-12 in terms that it does.
fn understood(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // A tuple, as draft 7 writes it.
            if let Some(items) = fields.remove("prefixItems") {
                fields.insert("minItems".into(), items.as_array().map(Vec::len).into());
                fields.insert("maxItems".into(), items.as_array().map(Vec::len).into());
                fields.insert("items".into(), items);
            }
            // Whatever the game serializes, which would become an object.
            if fields.get("description").is_some_and(Value::is_string) && fields.len() == 1 {
                fields.insert("tsType".into(), "unknown".into());
            }
            // A reference with a description of its own would become a type of its own.
            if fields.len() > 1
                && let Some(target) = fields.remove("$ref")
            {
                fields.insert("allOf".into(), json!([{ "$ref": target }]));
            }
            fields.values_mut().for_each(understood);
        }
        Value::Array(values) => values.iter_mut().for_each(understood),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(title: &str, shared: Value) -> Value {
        json!({ "title": title, "type": "object", "$defs": { "Shared": shared } })
    }

    #[test]
    fn documents_share_a_type_only_if_it_means_the_same() {
        let text = json!({ "type": "string" });
        let both = |other: Value| joined(vec![document("A", text.clone()), document("B", other)]);
        let schema = both(text.clone()).unwrap();
        let names: Vec<&String> = schema["$defs"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["A", "B", "Shared"]);
        assert!(
            both(json!({ "type": "null" }))
                .unwrap_err()
                .contains("Shared")
        );
    }

    #[test]
    fn what_the_generator_does_not_know_becomes_what_it_knows() {
        let mut schema = json!({ "properties": {
            "pair": { "type": "array", "prefixItems": [true, { "type": "integer" }] },
            "hash": { "description": "Of a state.", "$ref": "#/$defs/Hex64" },
            "plain": { "$ref": "#/$defs/Hex64" },
            "any": { "description": "An input." },
        }});
        understood(&mut schema);
        let fields = &schema["properties"];
        assert_eq!(fields["pair"]["items"][1]["type"], "integer");
        assert_eq!(fields["pair"]["maxItems"], 2);
        assert_eq!(fields["hash"]["allOf"][0]["$ref"], "#/$defs/Hex64");
        assert_eq!(fields["hash"]["description"], "Of a state.");
        assert_eq!(fields["plain"]["$ref"], "#/$defs/Hex64");
        assert_eq!(fields["any"]["tsType"], "unknown");
    }

    #[test]
    fn the_declarations_of_the_page_are_global() {
        assert!(PAGE.contains("declare global"));
        assert!(PAGE.contains("\"rollbacklab:error\""));
    }
}
