//! stub
pub(crate) fn command(_: &[String]) -> Result<(), String> {
    Ok(())
}
pub(crate) fn check() -> Result<(), String> {
    Ok(())
}
