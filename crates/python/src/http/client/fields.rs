//! The header fields of a request: encoded lines, or the `CIMultiDict` that a program has looked at.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyMapping, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use whorl_core::http1::encode;

use crate::errors::OrRaise;
use crate::http::given;
use crate::http::h1::encode::{type_name, utf8};
use crate::http::h1::head;

/// Where a line is in the bytes.
#[derive(Clone, Copy, Debug)]
struct Line {
    start: u32,
    /// The length of the name.
    name: u32,
    /// The end, with the line's own.
    end: u32,
}

/// Fields as they are sent, in their order.
#[derive(Clone, Debug, Default)]
pub struct FieldLines {
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

impl FieldLines {
    /// Adds a field.
    ///
    /// # Errors
    /// ValueError for a name that is no token, or a value with control characters.
    pub fn add(&mut self, name: &[u8], value: &[u8]) -> PyResult<()> {
        let line = self.append(name, value)?;
        self.lines.push(line);
        Ok(())
    }

    /// Sets a field: it takes the place of the first one of its name, and the others go.
    ///
    /// # Errors
    /// As [`FieldLines::add`].
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> PyResult<()> {
        let Some(place) = self.position(name) else { return self.add(name, value) };
        let line = self.append(name, value)?;
        self.lines[place] = line;
        let bytes = &self.bytes;
        let mut index = 0;
        self.lines.retain(|line| {
            index += 1;
            index <= place + 1 || !line.is(bytes, name)
        });
        Ok(())
    }

    /// Puts a field before all others: the last of its name that is here, or one with `value`.
    ///
    /// # Errors
    /// As [`FieldLines::add`].
    pub fn put_first(&mut self, name: &[u8], value: &[u8]) -> PyResult<()> {
        let bytes = &self.bytes;
        let own = self.lines.iter().rfind(|line| line.is(bytes, name)).copied();
        let line = match own {
            Some(line) => {
                self.remove(name);
                line
            }
            None => self.append(name, value)?,
        };
        self.lines.insert(0, line);
        Ok(())
    }

    /// Removes all fields of a name.
    pub fn remove(&mut self, name: &[u8]) {
        let bytes = &self.bytes;
        self.lines.retain(|line| !line.is(bytes, name));
    }

    /// Adds the fields of `others` whose names are not here and not among `skipped`, which are in lower case.
    pub fn add_missing(&mut self, others: &Self, skipped: &[Vec<u8>]) {
        for line in &others.lines {
            let name = line.name(&others.bytes);
            if self.contains(name) || skips(skipped, name) {
                continue;
            }
            let start = self.bytes.len();
            self.bytes.extend_from_slice(line.whole(&others.bytes));
            self.lines.push(Line::new(start, name.len(), self.bytes.len()));
        }
    }

    /// Whether there is a field of that name.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.position(name).is_some()
    }

    /// The value of the first field of that name.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let line = self.lines[self.position(name)?];
        Some(line.value(&self.bytes))
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (line.name(&self.bytes), line.value(&self.bytes)))
    }

    /// The lines as they are sent.
    pub fn iter_lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(|line| line.whole(&self.bytes))
    }

    /// A copy that has room for the fields which a request adds.
    pub fn roomy_clone(&self) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 256);
        bytes.extend_from_slice(&self.bytes);
        let mut lines = Vec::with_capacity(self.lines.len() + 8);
        lines.extend_from_slice(&self.lines);
        Self { bytes, lines }
    }

    fn append(&mut self, name: &[u8], value: &[u8]) -> PyResult<Line> {
        let start = self.bytes.len();
        encode::field(&mut self.bytes, name, value).or_raise()?;
        Ok(Line::new(start, name.len(), self.bytes.len()))
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.lines.iter().position(|line| line.is(&self.bytes, name))
    }
}

impl Line {
    /// Fields of a request are far from 4 GiB.
    const fn new(start: usize, name: usize, end: usize) -> Self {
        Self { start: start as u32, name: name as u32, end: end as u32 }
    }

    fn name(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..(self.start + self.name) as usize]
    }

    fn is(self, bytes: &[u8], name: &[u8]) -> bool {
        self.name as usize == name.len() && self.name(bytes).eq_ignore_ascii_case(name)
    }

    /// With the end of the line.
    fn whole(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// Between ": " and the line's end.
    fn value(self, bytes: &[u8]) -> &[u8] {
        let line = self.whole(bytes);
        &line[self.name as usize + 2..line.len() - encode::CRLF.len()]
    }
}

/// Whether `name` is among `skipped`, which are in lower case.
pub fn skips(skipped: &[Vec<u8>], name: &[u8]) -> bool {
    skipped.iter().any(|skipped| skipped.eq_ignore_ascii_case(name))
}

/// The header fields of a request or a call.
#[derive(Debug)]
pub enum RequestFields {
    /// No program has looked at them.
    Lines(FieldLines),
    /// A program has, and may have changed them.
    Dict(Py<PyAny>),
}

impl Default for RequestFields {
    fn default() -> Self {
        Self::Lines(FieldLines::default())
    }
}

impl RequestFields {
    /// A copy.
    ///
    /// # Errors
    /// What the dict's class raises.
    pub fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        Ok(match self {
            Self::Lines(lines) => Self::Lines(lines.clone()),
            Self::Dict(dict) => Self::Dict(ci_multi_dict(py)?.call1((dict,))?.unbind()),
        })
    }

    /// The `CIMultiDict`, which is the fields from now on.
    ///
    /// # Errors
    /// MemoryError.
    pub fn dict(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let dict = match self {
            Self::Dict(dict) => return Ok(dict.clone_ref(py)),
            Self::Lines(lines) => {
                let pairs = lines
                    .iter()
                    .map(|(name, value)| Ok((head::text(py, name)?, head::text(py, value)?)))
                    .collect::<PyResult<Vec<_>>>()?;
                ci_multi_dict(py)?.call1((pairs,))?.unbind()
            }
        };
        *self = Self::Dict(dict.clone_ref(py));
        Ok(dict)
    }

    /// Whether there is a field of that name.
    ///
    /// # Errors
    /// What the dict's class raises.
    pub fn contains(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        match self {
            Self::Lines(lines) => Ok(lines.contains(name.as_bytes())),
            Self::Dict(dict) => dict.bind(py).contains(name),
        }
    }

    /// The value of the first field of that name.
    ///
    /// # Errors
    /// What the dict's class raises; TypeError for a value that is no text.
    pub fn get(&self, py: Python<'_>, name: &str) -> PyResult<Option<Vec<u8>>> {
        match self {
            Self::Lines(lines) => Ok(lines.get(name.as_bytes()).map(<[u8]>::to_vec)),
            Self::Dict(dict) => {
                let value = dict.bind(py).call_method1(intern!(py, "get"), (name,))?;
                if value.is_none() { Ok(None) } else { Ok(Some(utf8(text(&value, name)?)?.into_owned())) }
            }
        }
    }

    /// Sets a field: it takes the place of those of its name.
    ///
    /// # Errors
    /// ValueError for a field that cannot be sent; what the dict's class raises.
    pub fn set(&mut self, py: Python<'_>, name: &str, value: &[u8]) -> PyResult<()> {
        match self {
            Self::Lines(lines) => lines.set(name.as_bytes(), value),
            Self::Dict(dict) => dict.bind(py).set_item(name, head::text(py, value)?),
        }
    }

    /// Puts a field before all others: the last of its name that is here, or one with `value`.
    ///
    /// # Errors
    /// As [`RequestFields::set`].
    pub fn put_first(&mut self, py: Python<'_>, name: &str, value: &[u8]) -> PyResult<()> {
        match self {
            Self::Lines(lines) => lines.put_first(name.as_bytes(), value),
            Self::Dict(dict) => {
                let others = dict.bind(py);
                let own = others.call_method1(intern!(py, "popall"), (name, PyList::empty(py)))?;
                let value = match own.len()? {
                    0 => head::text(py, value)?,
                    count => own.get_item(count - 1)?,
                };
                let all = ci_multi_dict(py)?.call0()?;
                all.set_item(name, value)?;
                all.call_method1(intern!(py, "extend"), (others,))?;
                *dict = all.unbind();
                Ok(())
            }
        }
    }

    /// Removes all fields of a name.
    ///
    /// # Errors
    /// What the dict's class raises.
    pub fn remove(&mut self, py: Python<'_>, name: &str) -> PyResult<()> {
        match self {
            Self::Lines(lines) => {
                lines.remove(name.as_bytes());
                Ok(())
            }
            Self::Dict(dict) => {
                dict.bind(py).call_method1(intern!(py, "popall"), (name, py.None())).map(drop)
            }
        }
    }

    /// Merges a program's own fields in: of one name, they replace those that are here.
    ///
    /// # Errors
    /// TypeError for names and values that are no text; ValueError for a field that cannot be sent.
    pub fn merge(&mut self, py: Python<'_>, own: &[Pair<'_>]) -> PyResult<()> {
        for (index, (name, value)) in own.iter().enumerate() {
            let again = own[..index].iter().any(|(before, _)| same_name(before, name));
            match self {
                Self::Lines(lines) => {
                    let (name, value) = (utf8(name)?, utf8(value)?);
                    if again { lines.add(&name, &value)? } else { lines.set(&name, &value)? }
                }
                Self::Dict(dict) if again => {
                    dict.bind(py).call_method1(intern!(py, "add"), (name, value)).map(drop)?;
                }
                Self::Dict(dict) => dict.bind(py).set_item(name, value)?,
            }
        }
        Ok(())
    }

    /// Adds the fields of `others` whose names are not here and not among `skipped`, which are in lower case.
    ///
    /// # Errors
    /// What the dict's class raises.
    pub fn add_missing(&mut self, py: Python<'_>, others: &FieldLines, skipped: &[Vec<u8>]) -> PyResult<()> {
        match self {
            Self::Lines(lines) => {
                lines.add_missing(others, skipped);
                Ok(())
            }
            Self::Dict(dict) => {
                let dict = dict.bind(py);
                for (name, value) in others.iter() {
                    let key = head::text(py, name)?;
                    if !dict.contains(&key)? && !skips(skipped, name) {
                        dict.set_item(key, head::text(py, value)?)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// The fields as lines; those of a dict are encoded into `place`.
    ///
    /// # Errors
    /// TypeError for names and values that are no text; ValueError for a field that cannot be sent.
    pub fn lines<'a>(&'a self, py: Python<'_>, place: &'a mut FieldLines) -> PyResult<&'a FieldLines> {
        match self {
            Self::Lines(lines) => Ok(lines),
            Self::Dict(dict) => {
                for pair in dict.bind(py).call_method0(intern!(py, "items"))?.try_iter()? {
                    let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair?.extract()?;
                    let name = utf8(name_text(&name)?)?;
                    let shown = String::from_utf8_lossy(&name);
                    place.add(&name, &utf8(text(&value, &shown)?)?)?;
                }
                Ok(place)
            }
        }
    }

    /// Shows the garbage collector the references.
    pub fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Lines(_) => Ok(()),
            Self::Dict(dict) => visit.call(dict),
        }
    }
}

/// Name and value.
pub type Pair<'py> = (Bound<'py, PyString>, Bound<'py, PyString>);

/// Names and values of `headers`: a mapping, or an iterable of pairs.
///
/// # Errors
/// TypeError for names and values that are no text, and for `headers` that are neither.
pub fn pairs<'py>(headers: &Bound<'py, PyAny>) -> PyResult<Vec<Pair<'py>>> {
    let pair = |(name, value): (Bound<'py, PyAny>, Bound<'py, PyAny>)| -> PyResult<Pair<'py>> {
        let name = name_text(&name)?.clone();
        let value = text(&value, &name.to_string_lossy())?.clone();
        Ok((name, value))
    };
    if let Ok(headers) = headers.cast_exact::<PyDict>() {
        return headers.iter().map(pair).collect();
    }
    if let Ok(headers) = headers.cast::<PyMapping>() {
        return headers.items()?.iter().map(|item| pair(item.extract()?)).collect();
    }
    if let Ok(pairs) = headers.cast_exact::<PyTuple>()
        && let Ok(pairs) = pairs.iter().map(|item| item.extract()).collect::<PyResult<Vec<_>>>()
    {
        return pairs.into_iter().map(pair).collect();
    }
    let headers = given::step(headers.py(), intern!(headers.py(), "header_fields"))?.call1((headers,))?;
    headers
        .call_method0(intern!(headers.py(), "items"))?
        .try_iter()?
        .map(|item| pair(item?.extract()?))
        .collect()
}

/// As aiohttp compares the names of one request's own fields.
fn same_name(one: &Bound<'_, PyString>, other: &Bound<'_, PyString>) -> bool {
    match (one.to_cow(), other.to_cow()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn name_text<'a, 'py>(name: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyString>> {
    name.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!("the name of a header field must be str, not {}", type_name(name)))
    })
}

fn text<'a, 'py>(value: &'a Bound<'py, PyAny>, name: &str) -> PyResult<&'a Bound<'py, PyString>> {
    value.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!(
            "the value of the header field {name} must be str, not {}",
            type_name(value)
        ))
    })
}

/// `multidict.CIMultiDict`
///
/// # Errors
/// ImportError.
pub fn ci_multi_dict(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
        Ok(py.import("multidict")?.getattr("CIMultiDict")?.unbind())
    })?;
    Ok(class.bind(py))
}
