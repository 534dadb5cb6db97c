//! What the live view looks like.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::model::{Column, Direction, Line, Top};

/// Draws the whole screen.
pub(crate) fn draw(frame: &mut Frame<'_>, top: &Top) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    let lines = top.lines();
    frame.render_widget(Paragraph::new(title(top, &lines)), head);
    let columns = columns(body.width, top.column);
    let rows = lines.iter().skip(top.offset).map(|line| row(line, &columns));
    let widths = columns.iter().map(|column| Constraint::Length(width(*column)));
    let widths = widths.chain([Constraint::Fill(1)]);
    let header = Row::new(header(top, &columns)).style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(Table::new(rows, widths).header(header), body);
    frame.render_widget(Paragraph::new(KEYS).style(Style::new().add_modifier(Modifier::DIM)), foot);
}

fn title<'a>(top: &'a Top, lines: &[Line]) -> Text<'a> {
    let services = lines.iter().filter(|line| line.state.is_none());
    let (mut count, mut active, mut rate) = (0, 0, 0);
    for service in services {
        count += 1;
        active += service.active;
        rate += service.rates.connections;
    }
    let unusable = |line: &&Line| matches!(line.state.as_deref(), Some("down" | "ejected"));
    let failed = lines.iter().filter(unusable).count();
    let mut spans = vec![Span::raw(format!(
        "{}  services {count}  servers {}  active {active}  conn/s {rate}",
        top.place,
        lines.len() - count
    ))];
    if failed > 0 {
        spans.push(Span::styled(format!("  down {failed}"), Color::Red));
    }
    if top.is_paused() {
        spans.push(Span::styled("  paused", Color::Yellow));
    }
    if let Some(trouble) = &top.trouble {
        spans.push(Span::styled(format!("  {trouble}"), Color::Red));
    }
    Text::from(spans)
}

/// The columns that there is room for: those that say least make way first, but never the one that
/// is sorted by.
fn columns(room: u16, sorted: Column) -> Vec<Column> {
    let mut columns = Column::ALL.to_vec();
    for spared in SPARED {
        let taken: u16 = columns.iter().map(|column| width(*column) + 1).sum();
        if taken + WHY <= room {
            break;
        }
        columns.retain(|column| *column != spared || *column == sorted);
    }
    columns
}

fn header(top: &Top, columns: &[Column]) -> Vec<Cell<'static>> {
    let titles = columns.iter().map(|&column| {
        let mark = match top.direction {
            _ if column != top.column => "",
            Direction::Usual => "*",
            Direction::Reversed => "!",
        };
        aligned(format!("{}{mark}", column.title()), column)
    });
    titles.chain([Cell::from("Why")]).collect()
}

fn row<'a>(line: &'a Line, columns: &[Column]) -> Row<'a> {
    let style = match line.state.as_deref() {
        None => Style::new().add_modifier(Modifier::BOLD),
        Some("down" | "ejected") => Style::new().fg(Color::Red),
        Some("full" | "draining" | "quiesced" | "warming") => Style::new().fg(Color::Yellow),
        Some(_) => Style::new(),
    };
    let cell = |column: Column| {
        let text = match column {
            Column::Address => line.address.clone(),
            Column::State => line.state.clone().unwrap_or_default(),
            Column::Weight => line.weight.map(|weight| weight.to_string()).unwrap_or_default(),
            Column::Active => line.active.to_string(),
            Column::Inactive => line.inactive.to_string(),
            Column::ConnectionRate => short(line.rates.connections),
            Column::RateIn => short(line.rates.bytes_in),
            Column::RateOut => short(line.rates.bytes_out),
            Column::Connections => short(line.connections),
            Column::Availability => {
                line.availability.map(|share| format!("{:.2}", share * 100.0)).unwrap_or_default()
            }
        };
        aligned(text, column)
    };
    let cells = columns.iter().copied().map(cell).chain([Cell::from(line.reason.as_str())]);
    Row::new(cells.collect::<Vec<_>>()).style(style)
}

/// Numbers stand at the right of their column.
fn aligned(text: String, column: Column) -> Cell<'static> {
    let is_text = matches!(column, Column::Address | Column::State);
    let alignment = if is_text { Alignment::Left } else { Alignment::Right };
    Cell::from(Text::from(text).alignment(alignment))
}

fn width(column: Column) -> u16 {
    match column {
        Column::Address => 34,
        Column::State => 8,
        Column::Weight | Column::Active | Column::Inactive | Column::Availability => 7,
        Column::ConnectionRate | Column::RateIn | Column::RateOut | Column::Connections => 8,
    }
}

/// A number in at most six characters.
fn short(number: u64) -> String {
    match number {
        0..100_000 => number.to_string(),
        100_000..10_000_000 => format!("{}K", number / 1_000),
        10_000_000..10_000_000_000 => format!("{}M", number / 1_000_000),
        10_000_000_000..10_000_000_000_000 => format!("{}G", number / 1_000_000_000),
        _ => format!("{}T", number / 1_000_000_000_000),
    }
}

/// In the order in which they make way.
const SPARED: [Column; 6] = [
    Column::Inactive,
    Column::Connections,
    Column::Weight,
    Column::RateIn,
    Column::Availability,
    Column::RateOut,
];

/// Room that the reason should have.
const WHY: u16 = 12;

const KEYS: &str = "q quit   s S sort column   r reverse   p pause   arrows scroll";

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::model::tests::sample;

    fn screen(top: &Top, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, top)).unwrap();
        let buffer = terminal.backend().buffer();
        let rows = buffer.content().chunks(width.into());
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
            .collect()
    }

    #[test]
    fn screen_shows_services_servers_and_why_one_is_down() {
        let mut top = Top::new("/run/l4-proxy.sock".to_owned());
        top.take(Ok(sample()));
        assert_eq!(
            screen(&top, 132, 9),
            [
                "/run/l4-proxy.sock  services 2  servers 4  active 10  conn/s 99  down 1",
                "Service / Server*                  State     Weight  Active   Inact   Conn/s   In B/s  Out B/s    Conns   Avail Why",
                "TCP 192.0.2.1:80 wlc                                      9       0        9        0        0        0         3 refused",
                "  -> 10.0.0.1:80                   down           1       0       0        0        0        0        0   50.00 2 × connect refused",
                "  -> 10.0.0.2:80                   up             1       2       0        3        0    30000      300  100.00",
                "  -> 10.0.0.3:80                   up             1       7       0        6        0    60000      600  100.00",
                "TCP 192.0.2.2:80 wlc                                      1       0       90        0        0        0         3 refused",
                "  -> 10.0.0.4:80                   up             1       1       0       90        0     900K     9000  100.00",
                "q quit   s S sort column   r reverse   p pause   arrows scroll",
            ]
        );
    }

    #[test]
    fn small_screen_shows_what_it_can() {
        let mut top = Top::new(String::new());
        top.take(Ok(sample()));
        for (width, height) in [(1, 1), (20, 3), (80, 24)] {
            screen(&top, width, height);
        }
        top.offset = 5;
        assert!(screen(&top, 80, 4)[2].starts_with("  -> 10.0.0.4:80"));
    }
}
