//! Columns of types that few files have: dictionaries without their keys, and text for what JSON has no word for.
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowTemporalType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, IntervalDayTimeType,
    IntervalMonthDayNanoType, IntervalYearMonthType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};

/// A dictionary's values in place of its keys; `None` for other arrays, and for one whose keys point nowhere.
pub(super) fn without_dictionary(array: &dyn Array) -> Option<ArrayRef> {
    let dictionary = array.as_any_dictionary_opt()?;
    arrow_select::take::take(dictionary.values().as_ref(), dictionary.keys(), None).ok()
}

/// A present value as text: decimals as digits, times of day as `13:05:00.250`, durations and intervals as ISO 8601
/// (`PT1.500S`, `P14M3DT0.5S`). `None` for types that have no text, and times that are none.
pub(super) fn rare_text(array: &dyn Array, index: usize) -> Option<String> {
    Some(match array.data_type() {
        DataType::Decimal32(..) => array.as_primitive::<Decimal32Type>().value_as_string(index),
        DataType::Decimal64(..) => array.as_primitive::<Decimal64Type>().value_as_string(index),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(index),
        DataType::Decimal256(..) => array.as_primitive::<Decimal256Type>().value_as_string(index),
        DataType::Time32(TimeUnit::Second) => time::<Time32SecondType>(array, index)?,
        DataType::Time32(_) => time::<Time32MillisecondType>(array, index)?,
        DataType::Time64(TimeUnit::Microsecond) => time::<Time64MicrosecondType>(array, index)?,
        DataType::Time64(_) => time::<Time64NanosecondType>(array, index)?,
        DataType::Duration(TimeUnit::Second) => duration::<DurationSecondType>(array, index)?,
        DataType::Duration(TimeUnit::Millisecond) => duration::<DurationMillisecondType>(array, index)?,
        DataType::Duration(TimeUnit::Microsecond) => duration::<DurationMicrosecondType>(array, index)?,
        DataType::Duration(TimeUnit::Nanosecond) => duration::<DurationNanosecondType>(array, index)?,
        DataType::Interval(IntervalUnit::YearMonth) => {
            format!("P{}M", array.as_primitive::<IntervalYearMonthType>().value(index))
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(index);
            format!("P{}DT{}S", value.days, seconds(i64::from(value.milliseconds), 1_000))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(index);
            format!("P{}M{}DT{}S", value.months, value.days, seconds(value.nanoseconds, 1_000_000_000))
        }
        _ => return None,
    })
}

fn time<T: ArrowTemporalType>(array: &dyn Array, index: usize) -> Option<String>
where
    i64: From<T::Native>,
{
    array.as_primitive::<T>().value_as_time(index).map(|time| time.to_string())
}

fn duration<T: ArrowTemporalType>(array: &dyn Array, index: usize) -> Option<String>
where
    i64: From<T::Native>,
{
    array.as_primitive::<T>().value_as_duration(index).map(|duration| duration.to_string())
}

/// `value` of `per_second` to the second, as `-1.25`.
fn seconds(value: i64, per_second: u64) -> String {
    let (whole, part) = (value.unsigned_abs() / per_second, value.unsigned_abs() % per_second);
    let sign = if value < 0 { "-" } else { "" };
    if part == 0 {
        return format!("{sign}{whole}");
    }
    let digits = per_second.ilog10() as usize;
    format!("{sign}{whole}.{}", format!("{part:0digits$}").trim_end_matches('0'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::{Int8Type, IntervalDayTime, IntervalMonthDayNano};
    use arrow_array::*;
    use arrow_cast::display::array_value_to_string;

    use super::*;

    #[test]
    fn decimals_times_and_durations_read_as_arrow_writes_them() {
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Decimal32Array::from(vec![-1234]).with_precision_and_scale(6, 2).unwrap()),
            Arc::new(Decimal64Array::from(vec![1_234_567]).with_precision_and_scale(12, 3).unwrap()),
            Arc::new(Decimal128Array::from(vec![7]).with_precision_and_scale(20, 4).unwrap()),
            Arc::new(
                Decimal256Array::from_iter_values([i256_of(-70)]).with_precision_and_scale(40, 1).unwrap(),
            ),
            Arc::new(Time32SecondArray::from(vec![47_100])),
            Arc::new(Time32MillisecondArray::from(vec![47_100_250])),
            Arc::new(Time64MicrosecondArray::from(vec![47_100_250_001])),
            Arc::new(Time64NanosecondArray::from(vec![47_100_250_000_001])),
            Arc::new(DurationSecondArray::from(vec![90])),
            Arc::new(DurationMillisecondArray::from(vec![-1_500])),
            Arc::new(DurationMicrosecondArray::from(vec![1])),
            Arc::new(DurationNanosecondArray::from(vec![1_000_000_000])),
        ];
        for array in arrays {
            let text = rare_text(array.as_ref(), 0).unwrap();
            assert_eq!(text, array_value_to_string(array.as_ref(), 0).unwrap(), "{}", array.data_type());
        }
    }

    fn i256_of(value: i128) -> arrow_buffer::i256 {
        arrow_buffer::i256::from_i128(value)
    }

    #[test]
    fn intervals_are_iso_8601() {
        let months = IntervalYearMonthArray::from(vec![14]);
        assert_eq!(rare_text(&months, 0).unwrap(), "P14M");
        let days = IntervalDayTimeArray::from(vec![IntervalDayTime::new(3, -1_250)]);
        assert_eq!(rare_text(&days, 0).unwrap(), "P3DT-1.25S");
        let all = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(14, 3, 2_000_000_000)]);
        assert_eq!(rare_text(&all, 0).unwrap(), "P14M3DT2S");
    }

    #[test]
    fn what_has_no_text_says_so() {
        assert_eq!(rare_text(&Time32SecondArray::from(vec![90_000]), 0), None);
        assert_eq!(rare_text(&Int8Array::from(vec![1]), 0), None);
    }

    #[test]
    fn a_dictionary_becomes_its_values() {
        let words: DictionaryArray<Int8Type> = [Some("red"), None, Some("red")].into_iter().collect();
        let plain = without_dictionary(&words).unwrap();
        assert_eq!(plain.as_ref(), &StringArray::from(vec![Some("red"), None, Some("red")]) as &dyn Array);
        assert!(without_dictionary(&plain).is_none());
    }
}
