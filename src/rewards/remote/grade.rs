//! Reads a chat model's grades: whole numbers from 1 to 10, on lines of their own at the end.

use super::error::ServiceError;

/// The grades of a reply, in the order of `names`. Anything but the lines that were asked for is
/// refused: a number found somewhere in a text may be of something else.
pub(super) fn grades(text: &str, names: &[&str]) -> Result<Vec<f32>, ServiceError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    let Some(start) = lines.len().checked_sub(names.len()) else {
        return Err(refused(names));
    };
    if lines[..start]
        .iter()
        .any(|line| grade(line, names).is_some())
    {
        let reason = "a grade stands before the last lines, so it is not clear which one counts";
        return Err(ServiceError::NoGrade(reason.to_owned()));
    }
    let read = names.iter().zip(&lines[start..]);
    read.map(|(name, line)| grade(line, &[name]).ok_or_else(|| refused(names)))
        .collect()
}

fn refused(names: &[&str]) -> ServiceError {
    let lines: Vec<_> = names.iter().map(|name| format!("`{name}: N`")).collect();
    ServiceError::NoGrade(format!(
        "the text does not end in {} with N a whole number from 1 to 10",
        lines.join(" and ")
    ))
}

/// The grade of a line that holds nothing else.
fn grade(line: &str, names: &[&str]) -> Option<f32> {
    let (name, number) = line.split_once(':')?;
    let digits = number.trim();
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let grade: u8 = digits.parse().ok().filter(|_| plain)?;
    (names.contains(&name) && (1..=10).contains(&grade)).then(|| f32::from(grade))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grades_stand_on_the_last_lines() {
        let check = |text: &str, names: &[&str], expected: Option<&[f32]>| {
            assert_eq!(grades(text, names).ok().as_deref(), expected, "{text}");
        };
        let one = &["Grade"][..];
        check("It helps.\nGrade: 7", one, Some(&[7.0]));
        check("Grade: 10\n\n", one, Some(&[10.0]));
        for text in [
            "",
            "7",
            "Grade: 0",
            "Grade: 11",
            "Grade: 7/10",
            "Grade: 7.5",
            "Grade: +7",
            "Grade: seven",
            "grade: 7",
            "Grade: 7\nGood.",
            "Grade: 3\nNo, better.\nGrade: 7",
            "Grade A: 7",
        ] {
            check(text, one, None);
        }
        let two = &["Grade A", "Grade B"][..];
        check("Both.\nGrade A: 3\nGrade B: 9", two, Some(&[3.0, 9.0]));
        check("Grade B: 9\nGrade A: 3", two, None);
        check("Grade A: 3", two, None);
    }
}
