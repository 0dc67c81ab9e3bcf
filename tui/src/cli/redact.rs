//! `txray redact test`: what a configuration would do to sample input. It prints values before and after, because that is what it
//! is asked for; nothing else prints them.

use std::fs;
use std::io::{self, Read, Write};

use anyhow::Context;
use serde_json::json;
use txray_recorder::redaction::{Redactor, SAMPLE_TYPES, Sample, SampleField, Sampler};

use super::args::RedactTestOptions;
use super::config::{ConfigFile, redaction};
use super::failure::{Failure, Outcome};

/// Larger samples are not read.
const SAMPLE_BYTES_MAX: u64 = 16 << 20;

pub(super) fn test(
    options: &RedactTestOptions,
    file: Option<&ConfigFile>,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    if options.sql.is_none() && options.http.is_none() && options.row.is_empty() {
        return Err(Failure::usage("there is nothing to test")
            .hint("give --sql TEXT with --param VALUE, --http FILE or --row TABLE COLUMN=VALUE…")
            .into());
    }
    let mut rules = Sampler::new(Redactor::configured(redaction(file)?)?);
    let mut samples = Vec::new();
    if let Some((table, fields)) = options.row.split_first() {
        let fields: Vec<SampleField> = fields.iter().map(|field| sample_field(field)).collect::<Result<_, _>>()?;
        samples.extend(rules.row(table, &fields));
    }
    if let Some(sql) = &options.sql {
        samples.extend(rules.statement(sql, &options.param));
    }
    if let Some(source) = &options.http {
        let raw = read(source)?;
        let Some(found) = rules.http(&raw) else {
            return Err(Failure::usage("the sample of --http is no request and no response")
                .hint("give a head as on the wire (POST /path HTTP/1.1, headers), an empty line, and the body")
                .into());
        };
        samples.extend(found);
    }
    if options.json {
        let documents = samples.iter().map(|sample| {
            json!({ "what": sample.what, "before": sample.before, "after": sample.after, "redacted": sample.is_redacted() })
        });
        serde_json::to_writer_pretty(&mut *out, &documents.collect::<Vec<_>>())?;
        writeln!(out)?;
    } else {
        samples.iter().try_for_each(|sample| show(sample, out))?;
    }
    let matched = samples.iter().any(Sample::is_redacted);
    Ok(if options.expect_match && !matched { Outcome::Differs } else { Outcome::Done })
}

/// `column=value` or `column:type=value`.
fn sample_field(text: &str) -> Result<SampleField, Failure> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(
            Failure::usage("a field of --row has no \"=\"").hint("write each as COLUMN=VALUE or COLUMN:TYPE=VALUE")
        );
    };
    let (column, type_name) = name.split_once(':').unwrap_or((name, "text"));
    if !SAMPLE_TYPES.iter().any(|(known, _)| *known == type_name) {
        let known: Vec<&str> = SAMPLE_TYPES.iter().map(|(name, _)| *name).collect();
        return Err(Failure::usage(format!("column \"{column}\" of --row has a type that is not known"))
            .hint(format!("the types are {}", known.join(", "))));
    }
    Ok(SampleField { column: column.to_owned(), type_name: type_name.to_owned(), value: value.to_owned() })
}

fn read(source: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if source == "-" {
        io::stdin().take(SAMPLE_BYTES_MAX).read_to_end(&mut bytes).context("could not read standard input")?;
    } else {
        let file = fs::File::open(source).with_context(|| format!("could not read the sample \"{source}\""))?;
        file.take(SAMPLE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .with_context(|| format!("could not read the sample \"{source}\""))?;
    }
    Ok(bytes)
}

fn show(sample: &Sample, out: &mut impl Write) -> io::Result<()> {
    let after = sample.after.as_deref().unwrap_or("NULL");
    if !sample.is_redacted() {
        writeln!(out, "{}: unchanged", sample.what)?;
        return sample.before.lines().try_for_each(|line| writeln!(out, "    {line}"));
    }
    writeln!(out, "{}: redacted", sample.what)?;
    sample.before.lines().try_for_each(|line| writeln!(out, "  - {line}"))?;
    after.lines().try_for_each(|line| writeln!(out, "  + {line}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn run(options: &RedactTestOptions, toml: &str) -> (String, Outcome) {
        let file = ConfigFile::parse(Path::new("txray.toml"), toml).unwrap();
        let mut out = Vec::new();
        let outcome = test(options, Some(&file), &mut out).unwrap();
        (String::from_utf8(out).unwrap(), outcome)
    }

    const RULE: &str = "[[redact.columns]]\ncolumn = \"public.users.email\"\naction = \"mask\"\n";

    #[test]
    fn before_and_after_are_shown() {
        let options = RedactTestOptions {
            row: ["users", "id:int=7", "email=ann@x.org"].map(str::to_owned).to_vec(),
            sql: Some("UPDATE users SET email = $1 WHERE id = 7".to_owned()),
            param: vec!["bob@x.org".to_owned()],
            http: None,
            json: false,
            expect_match: true,
        };
        let (text, outcome) = run(&options, RULE);
        assert_eq!(
            text,
            "column id: unchanged\n    7\ncolumn email: redacted\n  - ann@x.org\n  + ***\n\
             SQL: unchanged\n    UPDATE users SET email = $1 WHERE id = 7\nparameter $1: redacted\n  - bob@x.org\n  + ***\n"
        );
        assert_eq!(outcome, Outcome::Done);
        let (text, outcome) = run(&RedactTestOptions { json: true, ..options }, "");
        let documents: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((documents[1]["redacted"].as_bool(), outcome), (Some(false), Outcome::Differs));
    }

    #[test]
    fn fields_that_cannot_be_read_are_refused_without_their_values() {
        for field in ["s3cr3t", "a:colour=s3cr3t"] {
            assert!(!sample_field(field).unwrap_err().to_string().contains("s3cr3t"));
        }
    }
}
