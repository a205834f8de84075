//! Runs a full-screen program on the terminal: takes the screen, draws, hands keys over, gives the screen back however
//! it ends. Knows nothing about what is shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::CliError;

/// What happens after a key or a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Go,
    Quit,
}

/// A program for the whole screen.
pub trait Screen {
    /// How often it looks at the world without a key being pressed.
    const TICK: Duration;

    fn draw(&mut self, frame: &mut Frame<'_>);

    fn press(&mut self, key: KeyCode) -> Next;

    fn tick(&mut self) -> Next {
        Next::Go
    }
}

/// Longest wait for a key: so soon a signal to end is heard of.
const WAIT: Duration = Duration::from_millis(500);

/// Runs it until it quits or is told to end. The terminal is as before afterwards, also after a panic: the library's
/// hook sees to that before the message is printed.
pub fn run(screen: &mut impl Screen) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::failure("the terminal can't be used").because(&error);
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(failed)?;
    }
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let result = turn(&mut terminal, screen, &ended);
    ratatui::restore();
    result.map_err(failed)
}

fn turn<S: Screen>(
    terminal: &mut ratatui::DefaultTerminal,
    screen: &mut S,
    ended: &AtomicBool,
) -> std::io::Result<()> {
    let mut ticked = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        // Only cells that changed are written, so nothing flickers.
        terminal.draw(|frame| screen.draw(frame))?;
        let rest = S::TICK.saturating_sub(ticked.elapsed()).min(WAIT);
        if event::poll(rest)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && (is_interrupt(key) || screen.press(key.code) == Next::Quit)
        {
            return Ok(());
        }
        if ticked.elapsed() >= S::TICK {
            ticked = Instant::now();
            if screen.tick() == Next::Quit {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Raw mode hands Ctrl-C over as a key.
fn is_interrupt(key: KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c')
}

/// What a screen of a size looks like, as text: for tests.
#[cfg(test)]
pub fn frame(screen: &mut impl Screen, width: u16, height: u16) -> String {
    let backend = ratatui::backend::TestBackend::new(width, height);
    let mut terminal = ratatui::Terminal::new(backend).expect("a terminal in memory");
    terminal.draw(|frame| screen.draw(frame)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    struct Bomb;

    impl Screen for Bomb {
        const TICK: Duration = Duration::ZERO;

        fn draw(&mut self, _: &mut Frame<'_>) {
            panic!("the bomb went off");
        }

        fn press(&mut self, _: KeyCode) -> Next {
            Next::Quit
        }
    }

    /// Says that this process is the one with the bomb.
    const ARMED: &str = "BOMB_ON_THE_SCREEN";

    /// The message of a panic can be read, because the screen is given back first.
    #[test]
    fn a_panic_gives_the_screen_back() {
        if std::env::var_os(ARMED).is_some() {
            let _ = run(&mut Bomb);
            return;
        }
        let me = std::env::current_exe().expect("this test");
        let name = "terminal::tests::a_panic_gives_the_screen_back";
        let again = format!("stty rows 24 cols 80; '{}' --exact {name} --nocapture", me.display());
        let mut command = Command::new("script");
        command.args(["-qec", &again, "/dev/null"]).env(ARMED, "1").stdin(Stdio::null());
        let output = command.output().expect("util-linux's script");
        let all = String::from_utf8_lossy(&output.stdout).into_owned();
        let at = |text: &str| all.find(text).unwrap_or_else(|| panic!("no {text:?} in {all:?}"));
        assert!(
            at("\x1b[?1049h") < at("\x1b[?1049l") && at("\x1b[?1049l") < at("the bomb went off"),
            "{all:?}"
        );
    }
}
