use collm_core::ids::*;
use collm_engine::*;
use collm_ggml::oracle::*;
use collm_ggml::*;
use std::sync::Arc;
use std::time::Instant;
fn argmax(l: &[f32]) -> u32 {
    let mut b = 0;
    for i in 0..l.len() {
        if l[i] > l[b] {
            b = i
        }
    }
    b as u32
}
struct Ours {
    e: GgmlEngine,
    len: usize,
    h: Vec<f32>,
    h2: Vec<f32>,
    logits: Vec<f32>,
}
impl Ours {
    fn clear(&mut self) {
        self.e.truncate(SlotId(0), 0);
        self.len = 0;
    }
    fn decode(&mut self, t: &[TokenId]) -> &[f32] {
        let rows: Vec<Row> =
            (0..t.len()).map(|i| Row { slot: SlotId(0), position: Position((self.len + i) as u32) }).collect();
        self.e.run(Stack::Lower, &rows, Input::Tokens(t), &mut self.h).unwrap();
        self.e.run(Stack::Upper, &rows, Input::Hidden(&self.h), &mut self.h2).unwrap();
        self.len += t.len();
        let w = self.e.shape().width;
        let n = self.h2.len();
        self.e.score(Head::Final, &self.h2[n - w..], &mut self.logits).unwrap();
        &self.logits
    }
}
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let threads: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let file = Arc::new(collm_model::ModelFile::open(std::path::Path::new(&path)).unwrap());
    let mut ours = Ours {
        e: GgmlEngine::load(
            &file,
            &LoadOptions { context: 1024, threads: Threads::unbound(threads), ..Default::default() },
        )
        .unwrap(),
        len: 0,
        h: vec![],
        h2: vec![],
        logits: vec![],
    };
    let mut o = Oracle::load(
        std::path::Path::new(&path),
        OracleOptions { context: 1024, batch_rows: 512, threads: threads as u32, repack: true },
    )
    .unwrap();
    let v = ours.e.shape().vocabulary as u32;
    let prompt: Vec<TokenId> = (0..512).map(|i| TokenId((1000 + i * 37) % v)).collect();
    // correctness
    let mut maxd = 0f32;
    let mut same = 0;
    let mut a = ours.decode(&prompt[..100]).to_vec();
    let mut b = o.decode(&prompt[..100]).unwrap().to_vec();
    for _ in 0..64 {
        let d = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        maxd = maxd.max(d);
        let t = argmax(&b);
        if argmax(&a) == t {
            same += 1
        }
        a = ours.decode(&[TokenId(t)]).to_vec();
        b = o.decode(&[TokenId(t)]).unwrap().to_vec();
    }
    println!("max diff {maxd} same {same}/64");
    // batch law
    for chunk in [2, 3, 5, 8, 16, 17, 33, 63, 64, 128] {
        ours.clear();
        let mut one = vec![];
        for i in 0..128 {
            ours.decode(&prompt[i..i + 1]);
            one.extend_from_slice(&ours.h2);
        }
        ours.clear();
        let mut many = vec![];
        for c in prompt[..128].chunks(chunk) {
            ours.decode(c);
            many.extend_from_slice(&ours.h2);
        }
        let d = one.iter().zip(&many).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        println!("chunk {chunk}: diff {d}");
    }
    let mut r = [vec![], vec![], vec![]];
    for _ in 0..5 {
        for (k, n) in [(0, 128usize), (1, 512)] {
            ours.clear();
            let t = Instant::now();
            ours.decode(&prompt[..n]);
            let x = t.elapsed().as_secs_f64();
            o.clear();
            let t = Instant::now();
            o.decode(&prompt[..n]).unwrap();
            let y = t.elapsed().as_secs_f64();
            r[k].push((n as f64 / x, n as f64 / y));
            if k == 0 {
                let t = Instant::now();
                for i in 0..64 {
                    argmax(ours.decode(&prompt[i..i + 1]));
                }
                let x = t.elapsed().as_secs_f64();
                let t = Instant::now();
                for i in 0..64 {
                    argmax(o.decode(&prompt[i..i + 1]).unwrap());
                }
                let y = t.elapsed().as_secs_f64();
                r[2].push((64.0 / x, 64.0 / y));
            }
        }
    }
    for (n, v) in ["p128", "p512", "d64"].iter().zip(&mut r) {
        v.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let m = v[v.len() / 2];
        println!(
            "{n}: ours {:.0} llama {:.0} ratio {:.3}  [{:.2}..{:.2}]",
            m.0,
            m.1,
            m.0 / m.1,
            v[0].0 / v[0].1,
            v[4].0 / v[4].1
        );
    }
}
