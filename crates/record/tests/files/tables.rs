//! The tables hold what the files hold: row for row, in both formats, and no more columns than the
//! dictionary explains.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use rollback_lab_record::tables::{ALL, Cell, ColumnKind, Formats, Source, Table, TableFiles};
use rollback_lab_record::{Cause, EpisodeDocument};

use rollback_lab_test_kit::files::{folder, golden, opponent, session};

/// Every row of one table, by column.
fn rows(name: &str, source: Source<'_>) -> Vec<BTreeMap<&'static str, Cell<'static>>> {
    let table = table(name);
    let mut rows = Vec::new();
    let mut keep = |cells: &[Cell<'_>]| {
        let names = table.columns.iter().map(|column| column.name);
        rows.push(names.zip(cells.iter().map(owned)).collect());
        Ok(())
    };
    table.rows(source, &mut keep).expect("keeping cannot fail");
    rows
}

fn table(name: &str) -> &'static Table {
    ALL.into_iter()
        .find(|table| table.name == name)
        .expect("there is such a table")
}

fn owned(cell: &Cell<'_>) -> Cell<'static> {
    match cell {
        Cell::Int(value) => Cell::Int(*value),
        Cell::Float(value) => Cell::Float(*value),
        Cell::Flag(value) => Cell::Flag(*value),
        Cell::Text(text) => Cell::Text(text.clone().map(|text| text.into_owned().into())),
    }
}

fn sum(rows: &[BTreeMap<&'static str, Cell<'static>>], column: &str) -> u64 {
    let cells = rows.iter().map(|row| match &row[column] {
        Cell::Int(Some(value)) => u64::try_from(*value).expect("a count"),
        other => panic!("{column} is {other:?}"),
    });
    cells.sum()
}

fn adds_up(document: &EpisodeDocument) {
    let of = |name: &str| rows(name, Source::Episode(document));
    let end = document.frames.total;
    let count = |name: &str| of(name).len() as u64;
    assert_eq!(count("episodes"), 1);
    assert_eq!(count("sessions"), 0, "an episode is no session");
    assert_eq!(count("rollbacks"), document.rollbacks.count);
    assert_eq!(
        sum(&of("rollbacks"), "resimulatedFrames"),
        document.rollbacks.resimulated_frames
    );
    let misses = count("rollbacks") + sum(&of("rollbacks"), "alsoMispredicted");
    assert_eq!(misses, document.frames.prediction_misses);
    assert_eq!(count("frames"), end);
    assert_eq!(sum(&of("frames"), "frame"), end * (end - 1) / 2);
    let shown: u32 = document
        .timeline
        .predicted_first
        .iter()
        .flat_map(|first| &first.runs)
        .map(|run| run.count)
        .sum();
    assert_eq!(sum(&of("frames"), "wrongPlayers"), u64::from(shown));
    assert_eq!(count("stalls"), document.frames.stalls.len() as u64);
    assert_eq!(sum(&of("stalls"), "ticks"), document.frames.stalled);
    assert_eq!(sum(&of("frames"), "stalledTicks"), document.frames.stalled);
    assert_eq!(count("hashes"), document.sync.hashes.values.len() as u64);
    let players = document.session.player_ids.len() as u64;
    assert_eq!(sum(&of("inputs"), "frames"), players * end);
    assert_eq!(sum(&of("lateness"), "frames"), (players - 1) * end);
    assert_eq!(count("routes"), document.quality.route_changes.len() as u64);
    assert_eq!(count("latency"), document.latency.sample_count);
    let sampled = of("inputs")
        .into_iter()
        .filter(|row| row["sampledAtUs"] != Cell::Int(None));
    assert_eq!(sampled.count(), document.inputs.local_changes.len());
}

#[test]
fn rows_add_up_to_the_totals_of_the_file() {
    let mut stalled = golden();
    let stall = rollback_lab_record::StallRecord {
        frame: 7,
        ticks: 3,
        at_us: 1,
        cause: Cause::Unknown,
    };
    stalled.frames.stalls = vec![stall];
    stalled.frames.stalled = 3;
    for document in [golden(), opponent(), stalled] {
        adds_up(&document);
    }
}

#[test]
fn a_row_says_what_the_file_says() {
    let document = golden();
    let (event, rows) = (
        &document.rollbacks.events[1],
        rows("rollbacks", Source::Episode(&document)),
    );
    let row = &rows[1];
    assert_eq!(
        row["studyId"],
        Cell::Text(Some("study, with a comma".into()))
    );
    assert_eq!(row["episodeId"], Cell::Text(Some("00c0ffee-0".into())));
    assert_eq!(row["playerId"], Cell::Int(Some(0)));
    assert_eq!(row["remotePlayerId"], Cell::Int(Some(1)));
    assert_eq!(row["frame"], Cell::Int(Some(event.frame.into())));
    assert_eq!(
        row["actualAction"],
        Cell::Text(Some(r#"{"buttons":12}"#.into()))
    );
    assert_eq!(
        row["rttMs"],
        Cell::Float(None),
        "not measured is empty, not zero"
    );
}

#[test]
fn every_table_has_a_row_of_the_keys_and_of_its_own_columns() {
    let (document, trail) = (golden(), session(1));
    for table in ALL {
        for source in [Source::Episode(&document), Source::Session(&trail)] {
            let mut check = |cells: &[Cell<'_>]| {
                assert_eq!(cells.len(), table.columns.len(), "{}", table.name);
                for (column, cell) in table.columns.iter().zip(cells) {
                    let kind = match cell {
                        Cell::Int(_) => ColumnKind::Int,
                        Cell::Float(_) => ColumnKind::Float,
                        Cell::Text(_) => ColumnKind::Text,
                        Cell::Flag(_) => ColumnKind::Flag,
                    };
                    assert_eq!(kind, column.kind, "{}.{}", table.name, column.name);
                }
                Ok(())
            };
            table.rows(source, &mut check).expect("nothing is written");
        }
    }
    assert_eq!(rows("sessions", Source::Session(&trail)).len(), 1);
}

fn write(name: &str) -> std::path::PathBuf {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), name);
    let formats = Formats {
        csv: true,
        parquet: true,
    };
    let mut files = TableFiles::create(&folder, formats).expect("the folder is writable");
    files.add(Source::Session(&session(0))).expect("written");
    for document in [golden(), opponent()] {
        files.add(Source::Episode(&document)).expect("written");
    }
    let named = || {
        fs::read_dir(&folder)
            .expect("it is there")
            .filter(|entry| {
                let name = entry.as_ref().expect("an entry").file_name();
                !name.to_string_lossy().starts_with('.')
            })
            .count()
    };
    assert_eq!(named(), 0, "a table has its name only when it is whole");
    let written = files.finish().expect("finished");
    assert_eq!(written.len(), ALL.len());
    assert_eq!(
        named(),
        2 * ALL.len() + 2,
        "both formats, and the dictionary twice"
    );
    folder
}

#[test]
fn csv_and_parquet_hold_the_same_cells() {
    let folder = write("same");
    for table in ALL {
        let mut csv =
            csv::Reader::from_path(folder.join(format!("{}.csv", table.name))).expect("it is CSV");
        let names: Vec<_> = table.columns.iter().map(|column| column.name).collect();
        assert_eq!(
            csv.headers().expect("a header").iter().collect::<Vec<_>>(),
            names
        );
        let in_csv: Vec<Vec<String>> = csv
            .records()
            .map(|record| record.expect("a row").iter().map(str::to_owned).collect())
            .collect();
        let in_parquet = parquet_rows(&folder, table);
        assert_eq!(in_csv, in_parquet, "{}", table.name);
    }
}

fn parquet_rows(folder: &Path, table: &Table) -> Vec<Vec<String>> {
    let file = File::open(folder.join(format!("{}.parquet", table.name))).expect("it is there");
    let reader = SerializedFileReader::new(file).expect("it is Parquet");
    let rows = reader.get_row_iter(None).expect("it has rows");
    rows.map(|row| {
        let row = row.expect("a row");
        row.get_column_iter()
            .map(|(_, field)| match field {
                Field::Null => String::new(),
                Field::Long(value) => value.to_string(),
                Field::Double(value) => value.to_string(),
                Field::Bool(value) => value.to_string(),
                Field::Str(value) => value.clone(),
                other => panic!("{other:?} is of no kind of ours"),
            })
            .collect()
    })
    .collect()
}

#[test]
fn the_dictionary_explains_every_column_and_no_other() {
    let folder = write("dictionary");
    let mut dictionary =
        csv::Reader::from_path(folder.join("data-dictionary.csv")).expect("it is CSV");
    let told: Vec<(String, String)> = dictionary
        .records()
        .map(|record| {
            let record = record.expect("a row");
            assert!(
                record.iter().all(|field| !field.is_empty()),
                "{record:?} leaves something out"
            );
            (record[0].to_owned(), record[1].to_owned())
        })
        .collect();
    let written: Vec<(String, String)> = ALL
        .into_iter()
        .flat_map(|table| {
            let path = folder.join(format!("{}.csv", table.name));
            let mut reader = csv::Reader::from_path(path).expect("it is CSV");
            let headers = reader.headers().expect("a header").clone();
            let named = headers
                .iter()
                .map(|column| (table.name.to_owned(), column.to_owned()));
            named.collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(told, written);
    let page = fs::read_to_string(folder.join("data-dictionary.md")).expect("it is there");
    assert!(
        written
            .iter()
            .all(|(_, column)| page.contains(&format!("| `{column}` |")))
    );
}

#[test]
fn many_rows_go_into_several_row_groups() {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), "groups");
    let formats = Formats {
        csv: false,
        parquet: true,
    };
    let mut files = TableFiles::create(&folder, formats).expect("the folder is writable");
    let document = golden();
    for _ in 0..120 {
        files.add(Source::Episode(&document)).expect("written");
    }
    files.finish().expect("finished");
    let file = File::open(folder.join("frames.parquet")).expect("it is there");
    let reader = SerializedFileReader::new(file).expect("it is Parquet");
    let metadata = reader.metadata();
    assert_eq!(metadata.file_metadata().num_rows(), 120 * 300);
    assert_eq!(
        metadata.num_row_groups(),
        2,
        "36,000 rows are more than one group holds"
    );
}
